/** The part of luaparse that the tests use. */
declare module 'luaparse' {
  interface Node {
    readonly type: string;
    readonly name: string;
    readonly isLocal?: boolean;
  }
  interface Options {
    readonly luaVersion: string;
    readonly scope: boolean;
    readonly onCreateNode: (node: Node) => void;
  }
  const luaparse: { parse(code: string, options: Options): unknown };
  export default luaparse;
}
