package builder

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// export receives the image of a build. The session needs it before the build starts, but which store
// it is depends on the epoch: start opens it.
type export struct {
	content.Store
	open func(epoch time.Time) (content.Store, error)
}

func (e *export) start(epoch time.Time) (err error) {
	e.Store, err = e.open(epoch)
	return err
}

// exportOptions are the options of BuildKit's OCI exporter. Attestations are part of every export,
// however the image is delivered later.
func (j *job) exportOptions() map[string]string {
	opts := map[string]string{"tar": "false", "compression": "uncompressed", "oci-mediatypes": "true"}
	if j.attested() {
		opts["attestation-inline"], opts["oci-artifact"] = "true", "false"
		if len(j.req.Attest.Names) > 0 {
			opts["name"] = strings.Join(j.req.Attest.Names, ",")
		}
	}
	return opts
}

// exported returns the descriptor of the image that the daemon exported.
func exported(res *client.SolveResponse) (root ocispec.Descriptor, err error) {
	data, err := base64.StdEncoding.DecodeString(res.ExporterResponse[exptypes.ExporterImageDescriptorKey])
	if err == nil {
		err = json.Unmarshal(data, &root)
	}
	if err != nil {
		return root, fmt.Errorf("reading the export's descriptor: %w", err)
	}
	return root, nil
}
