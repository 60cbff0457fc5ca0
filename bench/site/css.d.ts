/** Vite puts a style sheet into the page that imports it. */
declare module '*.css';
