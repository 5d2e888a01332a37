package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/kedge-build/kedge/lock"
	"github.com/opencontainers/go-digest"
)

// RegoPath returns the path at which docker build finds the policy of a Dockerfile.
func RegoPath(dockerfile string) string { return dockerfile + ".rego" }

// maxRego bounds the bytes of a policy that kedge reads.
const maxRego = 64 << 20

// regoHeader begins every policy that Rego writes. The marker line follows it.
const (
	regoHeader = "# What the lockfile of this Dockerfile allows. Written by `kedge lock --export=rego`; do not edit it.\n"
	marker     = "# kedge-lock "
)

// regoRules is the part that is the same for every lock. What the client itself sends needs no pin. An image
// with a tag and a digest is one that a frontend has resolved, or that a Dockerfile writes.
const regoRules = `
default allow := false

allow if input.local

allow if input.http.host == "buildkit-session"

allow if pin_image(input.image, images[input.image.ref])

allow if {
	input.image.isCanonical
	images[sprintf("%s:%s", [input.image.fullRepo, input.image.tag])] == input.image.checksum
}

allow if urls[input.http.url] == input.http.checksum

allow if input.git.commitChecksum in repositories[input.git.fullURL]

deny_msg contains sprintf("image %s is not in the lockfile: kedge lock adds it", [input.image.ref]) if not allow

deny_msg contains sprintf("%s is not in the lockfile, or is not what it locks: kedge lock --check says more", [input.http.url]) if not allow

deny_msg contains sprintf("%s is not in the lockfile, or is not what it locks: kedge lock --check says more", [input.git.fullURL]) if not allow

decision := {"allow": allow, "deny_msg": deny_msg}
`

// Rego returns f as the policy that docker build reads next to a Dockerfile. Its second line has the digest
// of the lock's canonical text, and the digest of everything that follows.
func Rego(f *lock.File) []byte {
	var body bytes.Buffer
	body.WriteString("package docker\n")
	tables := map[lock.Kind]map[string]string{}
	repositories := map[string][]string{}
	for _, s := range f.Sources() {
		pin, _ := f.Pin(s)
		if s.Kind == lock.Git {
			remote, _, _ := strings.Cut(s.Ref, "#")
			repositories[remote] = append(repositories[remote], pin)
			continue
		}
		if tables[s.Kind] == nil {
			tables[s.Kind] = map[string]string{}
		}
		tables[s.Kind][s.Ref] = regoString(pin)
	}
	remotes := map[string]string{}
	for remote, pins := range repositories {
		slices.Sort(pins)
		for i, pin := range slices.Compact(pins) {
			if i > 0 {
				remotes[remote] += ", "
			}
			remotes[remote] += regoString(pin)
		}
		remotes[remote] = "{" + remotes[remote] + "}"
	}
	regoObject(&body, "images", tables[lock.Image])
	regoObject(&body, "urls", tables[lock.URL])
	regoObject(&body, "repositories", remotes)
	body.WriteString(regoRules)
	return fmt.Appendf(nil, "%s%s%s %s\n%s", regoHeader, marker, Digest(f), digest.FromBytes(body.Bytes()), body.Bytes())
}

// Digest returns the digest of the canonical text of f.
func Digest(f *lock.File) digest.Digest { return digest.FromBytes(f.Format()) }

// Own returns the digest of the lock that a policy was made of. It reports whether Rego wrote the policy, and
// no one changed it since.
func Own(rego []byte) (of digest.Digest, ok bool) {
	rest, ok := bytes.CutPrefix(rego, []byte(regoHeader+marker))
	line, body, _ := bytes.Cut(rest, []byte("\n"))
	first, sum, _ := strings.Cut(string(line), " ")
	if !ok || digest.FromBytes(body).String() != sum {
		return "", false
	}
	of, err := digest.Parse(first)
	return of, err == nil
}

// Read returns the policy at path. It is nil if there is none, and empty if it cannot be read.
func Read(path string) []byte {
	rego, err := wholefile.Read(path, maxRego)
	if err != nil {
		rego = nil
	}
	if _, err := os.Lstat(path); err == nil && rego == nil {
		rego = []byte{}
	}
	return rego
}

// ForeignError says that a file exists that would be replaced, and that kedge did not write it.
type ForeignError struct{ Path string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%q is a policy that kedge did not write, or that someone changed since", e.Path)
}

// WriteRego writes a policy to path, and replaces an empty file or one that Rego wrote. The error is a
// *ForeignError if another file is there.
func WriteRego(path string, rego []byte) error {
	old, err := wholefile.Read(path, maxRego)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, own := Own(old); len(old) > 0 && !own {
		return &ForeignError{Path: path}
	}
	return wholefile.WriteBytes(path, rego, 0o644)
}

// regoObject writes an object with one member a line, sorted. The values are written as they are.
func regoObject(b *bytes.Buffer, name string, values map[string]string) {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	fmt.Fprintf(b, "\n%s := {", name)
	for _, key := range keys {
		fmt.Fprintf(b, "\n\t%s: %s,", regoString(key), values[key])
	}
	if len(keys) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("}\n")
}

// regoString quotes a string. Rego's strings are those of JSON.
func regoString(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string can always be encoded
	}
	return strings.TrimSuffix(b.String(), "\n")
}
