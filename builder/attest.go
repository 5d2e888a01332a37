package builder

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/tonistiigi/go-csvvalue"
)

// Attest says which attestations a build makes. The zero value makes none.
type Attest struct {
	// Types has the attributes of each attestation, as docker writes them, by its type: provenance or sbom.
	Types map[string]string
	// Names are the names of the image that the attestations mention.
	Names []string
}

// attested reports whether this build makes attestations. The second build of a verification does not.
func (j *job) attested() bool { return !j.pass.IsSecond() && len(j.req.Attest.Types) > 0 }

// ProxyError says that provenance would publish the credentials of the proxy in the arg Name.
type ProxyError struct{ Name string }

func (e *ProxyError) Error() string {
	return fmt.Sprintf("provenance of mode max holds the proxies of steps, and %s has credentials", e.Name)
}

// ScannerError says that the image that makes the SBOM is not available.
type ScannerError struct{ Err error }

func (e *ScannerError) Error() string { return "the scanner for the SBOM: " + e.Err.Error() }

func (e *ScannerError) Unwrap() error { return e.Err }

// blameScanner returns err, as a *ScannerError if the scanner caused it. The daemon does not say which
// image it failed to get, so blameScanner tries again without the scanner.
func (j *job) blameScanner(ctx context.Context, c gateway.Client, err error) error {
	if _, ok := j.req.Attest.Types["sbom"]; !ok || !j.attested() || ctx.Err() != nil || j.pins.err(j.req, nil) != nil {
		return err
	}
	_, without := c.Solve(ctx, gateway.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: j.frontendOptions()})
	if without != nil {
		return err
	}
	return &ScannerError{Err: err}
}

// publishable returns a *ProxyError if provenance would show the credentials of a proxy to everyone who
// has the image.
func (j *job) publishable() error {
	if !j.detailed() {
		return nil
	}
	proxies := j.settings.proxies(j.req.Args)
	for _, name := range slices.Sorted(maps.Keys(proxies)) {
		if strings.Contains(proxies[name], "@") {
			return &ProxyError{Name: name}
		}
	}
	return nil
}

// detailed reports whether this build makes provenance that has the Dockerfile and how steps were run.
func (j *job) detailed() bool {
	attrs, ok := j.req.Attest.Types["provenance"]
	fields, err := csvvalue.Fields(attrs, nil)
	return ok && j.attested() && (err != nil || !slices.Contains(fields, "mode=min"))
}

// A CredentialsError says that provenance would publish the credentials of a URL that the Dockerfile
// fetches. Where is its line.
type CredentialsError struct{ Where string }

func (e *CredentialsError) Error() string {
	return e.Where + ": provenance of mode max holds the Dockerfile and its args, and the URL has credentials"
}

// discreet returns a *CredentialsError if provenance would show the credentials of a source to everyone who
// has the image.
func (j *job) discreet(def *definition) error {
	if !j.detailed() {
		return nil
	}
	for _, use := range def.uses() {
		if len(credentialsIn([]frontend.Use{use})) == 0 {
			continue
		}
		in, err := frontend.Identify(use.Op)
		if err != nil {
			return err
		}
		return &CredentialsError{Where: j.req.where(in.Source, use.Line)}
	}
	return nil
}

// attestOptions adds the wanted attestations to the options of the frontend or the daemon.
func (j *job) attestOptions(opts map[string]string) {
	if j.attested() {
		for kind, attrs := range j.req.Attest.Types {
			opts["attest:"+kind] = attrs
		}
	}
}

// attest copies the frontend's attestations. A scan of the image is a build of its own, and is
// rewritten like the first one.
func attest(ctx context.Context, c gateway.Client, from, to *gateway.Result, rw *rewriter) error {
	for _, id := range slices.Sorted(maps.Keys(from.Attestations)) {
		for _, a := range from.Attestations[id] {
			if a.Ref != nil {
				ref, err := rewritten(ctx, c, a.Ref, rw)
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

// rewritten solves the rewritten definition of ref.
func rewritten(ctx context.Context, c gateway.Client, ref gateway.Reference, rw *rewriter) (gateway.Reference, error) {
	st, err := ref.ToState()
	if err != nil {
		return nil, err
	}
	g, err := graphOf(ctx, st)
	if err != nil {
		return nil, err
	}
	scan := *rw
	scan.downloads = nil // the scanner is no step of the Dockerfile
	def, err := g.Rewrite(scan.edit)
	if err != nil {
		return nil, err
	}
	res, err := c.Solve(ctx, gateway.SolveRequest{Definition: def})
	if err != nil {
		return nil, err
	}
	return res.Ref, nil
}
