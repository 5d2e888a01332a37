// Package policy writes a lock in forms that other builders enforce: BuildKit's source policy, which buildx,
// compose and buildctl take, and the Rego policy that docker build finds next to a Dockerfile.
//
// Either allows the sources that the lock pins and no others. An image is fetched by its pin, whatever its
// tag says. Images of this machine are not among them, because no other builder can fetch one by its digest.
package policy

import (
	"encoding/json"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/solver/pb"
)

// These are the parts of BuildKit's sourcepolicy.Policy. Its own JSON leaves out the action ALLOW, which
// buildah requires.
type (
	sourcePolicy struct {
		Version int    `json:"version"`
		Rules   []rule `json:"rules"`
	}
	rule struct {
		Action   string   `json:"action"`
		Selector selector `json:"selector"`
		Updates  *updates `json:"updates,omitempty"`
	}
	selector struct {
		Identifier  string       `json:"identifier"`
		MatchType   string       `json:"match_type"`
		Constraints []constraint `json:"constraints,omitempty"`
	}
	constraint struct {
		Key       string `json:"key"`
		Value     string `json:"value"`
		Condition string `json:"condition"`
	}
	updates struct {
		Identifier string            `json:"identifier"`
		Attrs      map[string]string `json:"attrs,omitempty"`
	}
)

// fetched lists what a builder fetches by other means than the client's session.
var fetched = []string{"docker-image://*", "docker-image+blob://*", "http://*", "https://*", "git://*"}

// uploads is how a client's archive looks to a builder: a URL that only the session has.
const uploads = "://buildkit-session/*"

// Source returns f as BuildKit's source policy, in JSON.
//
// BuildKit starts again after each conversion, and otherwise goes by the last rule that allows or denies.
// buildah goes by the first rule that matches. In this order, conversions first, both decide the same.
func Source(f *lock.File) ([]byte, error) {
	p := sourcePolicy{Version: 1}
	var allowed []rule
	for _, s := range f.Sources() {
		pin, _ := f.Pin(s)
		if s.Kind == lock.Local {
			continue
		}
		op := frontend.Operation(s)
		in, err := frontend.Identify(op)
		if err != nil {
			return nil, err
		}
		pinned := frontend.Pinned(op, in, pin)
		unpinned, exact := attrs(s.Kind, op, pin)
		for _, sel := range selectors(s.Kind, op.Identifier) {
			to := pinned.Identifier
			if sel.MatchType == wildcard {
				to = strings.TrimSuffix(sel.Identifier, "*") + "$1"
			}
			changed := &updates{Identifier: to, Attrs: map[string]string{}}
			for key, value := range pinned.Attrs {
				if op.Attrs[key] != value {
					changed.Attrs[key] = value
				}
			}
			sel.Constraints = unpinned
			p.Rules = append(p.Rules, rule{Action: "CONVERT", Selector: sel, Updates: changed})
		}
		for _, sel := range selectors(s.Kind, pinned.Identifier) {
			sel.Constraints = exact
			allowed = append(allowed, rule{Action: "ALLOW", Selector: sel})
		}
	}
	for _, scheme := range fetched {
		p.Rules = append(p.Rules, rule{Action: "DENY", Selector: selector{Identifier: scheme, MatchType: wildcard}})
	}
	for _, scheme := range []string{"http", "https"} {
		p.Rules = append(p.Rules, rule{Action: "ALLOW", Selector: selector{Identifier: scheme + uploads, MatchType: wildcard}})
	}
	p.Rules = append(p.Rules, allowed...)
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(p)
	return []byte(b.String()), err
}

const (
	exactly  = "EXACT"
	wildcard = "WILDCARD"
)

// selectors returns what matches an identifier: for git, also each of its folders.
func selectors(kind lock.Kind, id string) []selector {
	all := []selector{{Identifier: id, MatchType: exactly}}
	if kind != lock.Git || strings.ContainsAny(id, "*$") {
		return all // a wildcard would mean something else
	}
	if !strings.Contains(id, "#") {
		id += "#"
	}
	return append(all, selector{Identifier: id + ":*", MatchType: wildcard})
}

// attrs returns the constraints on a source that has no checksum of its own, and on one that has the pin. A
// Dockerfile that names another checksum contradicts the lock, and matches neither.
func attrs(kind lock.Kind, op *pb.SourceOp, pin string) (unpinned, pinned []constraint) {
	equal := func(key, value string) constraint {
		return constraint{Key: key, Value: value, Condition: "EQUAL"}
	}
	switch kind {
	case lock.URL:
		return []constraint{equal(pb.AttrHTTPChecksum, "")}, []constraint{equal(pb.AttrHTTPChecksum, pin)}
	case lock.Git:
		remote := equal(pb.AttrFullRemoteURL, op.Attrs[pb.AttrFullRemoteURL])
		return []constraint{remote, equal(pb.AttrGitChecksum, "")}, []constraint{remote, equal(pb.AttrGitChecksum, pin)}
	}
	return nil, nil
}
