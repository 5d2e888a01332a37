package builder

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/tonistiigi/go-csvvalue"
)

// Attest says which attestations a build makes. The zero value: none.
type Attest struct {
	// Types are the attributes of each, in docker's form, by its type: provenance or sbom.
	Types map[string]string
	// Names are those of the image, which attestations are then about.
	Names []string
}

// attested reports whether this build makes attestations: the second of a verification does not.
func (s *solve) attested() bool { return s.salt == 0 && len(s.req.Attest.Types) > 0 }

// ProxyError says that provenance would publish the credentials of a proxy.
type ProxyError struct{ Name string } // of the proxy arg

func (e *ProxyError) Error() string {
	return fmt.Sprintf("provenance of mode max holds the proxies of steps, and %s has credentials", e.Name)
}

// ScannerError says that the image that is to make the SBOM cannot be had.
type ScannerError struct{ Err error }

func (e *ScannerError) Error() string { return "the scanner for the SBOM: " + e.Err.Error() }

func (e *ScannerError) Unwrap() error { return e.Err }

// blameScanner returns a *ScannerError where err is about the scanner, and else err. The daemon does not
// say which image is one, so it is asked whether it does without.
func (s *solve) blameScanner(ctx context.Context, c gateway.Client, err error) error {
	if _, ok := s.req.Attest.Types["sbom"]; !ok || !s.attested() || ctx.Err() != nil || s.pins.err(s.req, nil) != nil {
		return err
	}
	_, without := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: s.frontendOptions()})
	if without != nil {
		return err
	}
	return &ScannerError{Err: err}
}

// publishable finds proxies of this machine that provenance would show to whoever has the image.
func (s *solve) publishable() error {
	attrs, ok := s.req.Attest.Types["provenance"]
	fields, err := csvvalue.Fields(attrs, nil)
	if !ok || !s.attested() || err == nil && slices.Contains(fields, "mode=min") {
		return nil
	}
	proxies := s.settings.proxies(s.req.Args)
	for _, name := range slices.Sorted(maps.Keys(proxies)) {
		if strings.Contains(proxies[name], "@") {
			return &ProxyError{Name: name}
		}
	}
	return nil
}

// attestOptions adds to the options of the frontend, or of the daemon, which attestations there are to be.
func (s *solve) attestOptions(opts map[string]string) {
	if s.attested() {
		for kind, attrs := range s.req.Attest.Types {
			opts["attest:"+kind] = attrs
		}
	}
}

// exportOptions are those of the export. Attestations go with it however the image is delivered later.
func (s *solve) exportOptions() map[string]string {
	opts := map[string]string{"tar": "false", "compression": "uncompressed", "oci-mediatypes": "true"}
	if s.attested() {
		opts["attestation-inline"], opts["oci-artifact"] = "true", "false"
		if len(s.req.Attest.Names) > 0 {
			opts["name"] = strings.Join(s.req.Attest.Names, ",")
		}
	}
	return opts
}

// attest hands over the attestations that the frontend made: scans of the image, which are pinned as the
// build is and run where it does.
func (s *solve) attest(ctx context.Context, c gateway.Client, from, to *gateway.Result) error {
	for _, id := range slices.Sorted(maps.Keys(from.Attestations)) {
		for _, a := range from.Attestations[id] {
			if a.Ref != nil {
				ref, err := s.pinned(ctx, c, a.Ref)
				if err != nil {
					return err
				}
				a.Ref = ref
			}
			to.AddAttestation(id, a)
		}
	}
	return nil
}

// pinned solves what ref is made of with its sources pinned.
func (s *solve) pinned(ctx context.Context, c gateway.Client, ref gateway.Reference) (gateway.Reference, error) {
	st, err := ref.ToState()
	if err != nil {
		return nil, err
	}
	g, err := graphOf(ctx, st)
	if err != nil {
		return nil, err
	}
	pinned, err := g.Rewrite(s.edit)
	if err != nil {
		return nil, err
	}
	res, err := c.Solve(ctx, gateway.SolveRequest{Definition: pinned})
	if err != nil {
		return nil, err
	}
	return res.Ref, nil
}
