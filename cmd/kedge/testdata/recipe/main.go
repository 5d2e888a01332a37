// Command recipe is a frontend of BuildKit for files that are no Dockerfiles: a line "from: IMAGE" is all that it reads.
package main

import (
	"context"
	"log"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	"github.com/moby/buildkit/util/appcontext"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto"
)

func main() {
	if err := grpcclient.RunFromEnvironment(appcontext.Context(), build); err != nil {
		log.Fatal(err)
	}
}

func build(ctx context.Context, c client.Client) (*client.Result, error) {
	ui, err := dockerui.NewClient(c)
	if err != nil {
		return nil, err
	}
	src, err := ui.ReadEntrypoint(ctx, "recipe")
	if err != nil {
		return nil, err
	}
	_, image, _ := strings.Cut(string(src.Data), "from: ")
	st := llb.Image(strings.TrimSpace(image)).File(llb.Mkfile("/target", 0o644, []byte(c.BuildOpts().Opts["target"])))
	def, err := st.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := c.Solve(ctx, client.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	res.AddMeta(exptypes.ExporterImageConfigKey, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers"}}`))
	return res, nil
}
