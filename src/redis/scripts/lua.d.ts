/** A script of Lua is a module that exports its text, see `test/support/lua-loader.ts`. */
declare module '*.lua' {
  const source: string;
  export default source;
}
