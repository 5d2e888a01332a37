console.log(require('fastsum').total(process.argv.slice(2).map(Number)));
