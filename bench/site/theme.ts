/** The default theme of VitePress with the fonts of the reader's system, so that the site loads no font. */
import type { Theme } from 'vitepress';
import DefaultTheme from 'vitepress/theme-without-fonts';
// oxlint-disable-next-line import/no-unassigned-import -- a style sheet
import './site.css';

const theme: Theme = DefaultTheme;

export default theme;
