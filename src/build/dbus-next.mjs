// dbus-next loads packages for its proxies and for other Nodes that lockerd has no use for. They are half
// of each program, and every start would have to read them.

/** For introspection by proxies, for a Node without BigInt; proxies, and objects of its own. */
const unused = /^(?:xml2js|jsbi|\.\/client\/proxy-object|\.\/service\/(?:handlers|object))$/;

/** @type {import('esbuild').Plugin} */
export const esbuildDbusNext = {
  name: 'dbus-next',
  setup(build) {
    build.onResolve({ filter: unused }, ({ path, importer }) =>
      /\/node_modules\/dbus-next\//.test(importer) ? { path, namespace: 'unused' } : undefined,
    );
    // dbus-next makes a Builder beforehand.
    build.onLoad({ filter: /.*/, namespace: 'unused' }, () => ({
      contents: 'exports.Builder = class {};',
    }));
  },
};
