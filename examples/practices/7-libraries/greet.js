console.log(require("picocolors").green("hello"));
