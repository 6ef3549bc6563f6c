// The DICOMweb client of dcmjs-org against a server: node dicomweb_client.js URL FILE. Prints one JSON object.
"use strict";
const fs = require("node:fs");
globalThis.XMLHttpRequest = require("xhr2");
const { api } = require("dicomweb-client");

const [url, file] = process.argv.slice(2);
const bytes = buffer => Buffer.from(buffer).toString("base64");
const status = async promise => promise.then(() => 0, error => error.status);

async function main() {
  const headers = process.env.AUTHORIZATION ? { Authorization: process.env.AUTHORIZATION } : {};
  const client = new api.DICOMwebClient({ url, headers, verbose: false });
  const content = fs.readFileSync(file);
  const dataset = content.buffer.slice(content.byteOffset, content.byteOffset + content.length);
  const stored = await client.storeInstances({ datasets: [dataset] });

  const studies = await client.searchForStudies({ queryParams: { PatientName: "NODE*", includefield: "all" } });
  const studyInstanceUID = studies[0]["0020000D"].Value[0];
  const series = await client.searchForSeries({ studyInstanceUID });
  const seriesInstanceUID = series[0]["0020000E"].Value[0];
  const instances = await client.searchForInstances({ studyInstanceUID, seriesInstanceUID });
  const sopInstanceUID = instances[0]["00080018"].Value[0];
  const names = { studyInstanceUID, seriesInstanceUID, sopInstanceUID };

  const [metadata] = await client.retrieveInstanceMetadata(names);
  const studyMetadata = await client.retrieveStudyMetadata({ studyInstanceUID });
  const seriesMetadata = await client.retrieveSeriesMetadata({ studyInstanceUID, seriesInstanceUID });
  const bulkDataURI = metadata["7FE00010"].BulkDataURI;
  const frames = await client.retrieveInstanceFrames({ ...names, frameNumbers: [1, 2] });
  const [bulk] = await client.retrieveBulkData({ BulkDataURI: bulkDataURI });
  const mediaTypes = [{ mediaType: "image/png" }];
  const [rendered] = await client.retrieveInstanceRendered({ ...names, mediaTypes });
  const [frameRendered] = await client.retrieveInstanceFramesRendered({ ...names, frameNumbers: [2], mediaTypes });

  console.log(
    JSON.stringify({
      failed: Boolean(stored && JSON.stringify(stored).includes("00081198")),
      studies: studies.length,
      sopInstanceUID,
      rows: metadata["00280010"].Value[0],
      metadata: [studyMetadata.length, seriesMetadata.length],
      instance: bytes(await client.retrieveInstance(names)),
      series: (await client.retrieveSeries({ studyInstanceUID, seriesInstanceUID })).map(bytes),
      study: (await client.retrieveStudy({ studyInstanceUID })).map(bytes),
      frames: frames.map(bytes),
      bulk: bytes(bulk),
      rendered: bytes(rendered),
      frameRendered: bytes(frameRendered),
      missing: await status(client.retrieveInstance({ ...names, sopInstanceUID: "1.2.3.4.5" })),
      refused: await status(new api.DICOMwebClient({ url }).searchForStudies({})),
    }),
  );
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
