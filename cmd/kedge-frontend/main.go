// Command kedge-frontend is what the image behind "# syntax=REGISTRY/kedge" runs: BuildKit's Dockerfile frontend,
// held to the lockfile beside the Dockerfile. BuildKit starts it, and talks to it over its standard input and output.
package main

import (
	"fmt"
	"os"

	"github.com/kedge-build/kedge/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	"github.com/moby/buildkit/util/appcontext"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto" // as BuildKit's own frontends speak it
)

func main() {
	if err := grpcclient.RunFromEnvironment(appcontext.Context(), gateway.Build); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
