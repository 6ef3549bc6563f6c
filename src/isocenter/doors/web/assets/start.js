// What OHIF's page says in inline scripts, which our policy forbids.
window.PUBLIC_URL = "/ohif/";
function browserImportFunction(address) {
  return import(address);
}
