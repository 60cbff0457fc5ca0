/** The part of luaparse that the loader and the tests use. */
declare module 'luaparse' {
  interface Options {
    readonly luaVersion: string;
    readonly scope?: boolean;
    readonly comments?: boolean;
    readonly ranges?: boolean;
    readonly onCreateNode?: (node: unknown) => void;
  }
  interface Chunk {
    /** With `scope`: the first use of each global. */
    readonly globals: readonly { readonly name: string }[];
  }
  const luaparse: { parse(code: string, options: Options): Chunk };
  export default luaparse;
}
