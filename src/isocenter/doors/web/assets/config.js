// OHIF's configuration. A function, since it waits for a login; OHIF reads routerBasename before it calls it.
(() => {
  const { dicomWeb, mount, signIn } = window.isocenter;
  const session = window.isocenterSession;

  // ?spanner=2 shows what all archives of that configuration have, in this tab, until ?spanner= ends it.
  const SPANNER = "isocenter-spanner";
  const asked = new URLSearchParams(window.location.search).get("spanner");
  if (asked !== null) sessionStorage.setItem(SPANNER, asked);
  const spanner = sessionStorage.getItem(SPANNER) || "";
  const spans = /^[0-9]+$/.test(spanner);
  const root = window.location.origin + (spans ? `/api/v1/spanner/${spanner}/dicom-web` : dicomWeb);

  const signedIn = {
    id: "isocenter.signed-in",
    preRegistration({ servicesManager }) {
      servicesManager.services.userAuthenticationService.setServiceImplementation({
        getAuthorizationHeader: session.headers,
      });
    },
  };

  const logo = react =>
    react.createElement(
      "a",
      { href: signIn ? `${mount}/login` : `${mount}/`, title: "Isocenter: your login" },
      react.createElement("span", { style: { color: "#fff", fontWeight: 600, fontSize: "18px" } }, "Isocenter"),
    );

  const config = {
    routerBasename: mount,
    extensions: [signedIn],
    modes: [],
    customizationService: {},
    whiteLabeling: { createLogoComponentFn: logo },
    showStudyList: true,
    maxNumberOfWebWorkers: 3,
    showWarningMessageForCrossOrigin: false,
    showCPUFallbackMessage: true,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    groupEnabledModesFirst: true,
    investigationalUseDialog: { option: "configure", days: 30 },
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
    showErrorDetails: "production",
    defaultDataSourceName: "isocenter",
    dataSources: [
      {
        namespace: "@ohif/extension-default.dataSourcesModule.dicomweb",
        sourceName: "isocenter",
        configuration: {
          friendlyName: "Isocenter",
          name: "isocenter",
          wadoUriRoot: `${root}/wado`,
          qidoRoot: root,
          wadoRoot: root,
          qidoSupportsIncludeField: true,
          supportsFuzzyMatching: !spans,
          supportsWildcard: true,
          supportsReject: false,
          dicomUploadEnabled: !spans,
          imageRendering: "wadors",
          thumbnailRendering: "thumbnail",
          thumbnailRequestStrategy: "fetch",
          enableStudyLazyLoad: true,
          singlepart: "bulkdata,video,pdf",
          bulkDataURI: { enabled: true, relativeResolution: "studies" },
          omitQuotationForMultipartRequest: false,
        },
      },
    ],
    httpErrorHandler(error) {
      if (signIn && error.status === 401) session.begin();
    },
  };

  window.config = Object.assign(
    async () => {
      await session.begin();
      return config;
    },
    { routerBasename: mount },
  );
})();
