console.log(require("ms")(90_000, { long: true }));
