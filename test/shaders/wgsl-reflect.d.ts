// The package names a CommonJS file as its entry, which Node reads as a module: the module is imported by its own path.
declare module "wgsl_reflect/wgsl_reflect.module.js" {
  export * from "wgsl_reflect";
}
