package frontend

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/gitutil"
)

// Input is the source that an operation of a build fetches.
type Input struct {
	// Source is the source as a lock names it, without a digest in its reference.
	Source lock.Source
	// Written is Source with the digest of the reference, if it has one. A frontend that has resolved
	// debian:12 asks for debian:12@sha256:…, and a Dockerfile can do the same.
	Written lock.Source
	// Pin is the digest or commit that the operation itself asks for, or empty. For Git it can be an
	// abbreviated commit.
	Pin string
	// Local is true if the client supplies the content, as it does with the build context. All other
	// fields are then empty.
	Local bool
}

// UnsupportedError says that a lock cannot pin a source of this kind.
type UnsupportedError struct{ Identifier string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("source %q is of a kind that cannot be locked", withoutUser(e.Identifier))
}

const (
	imageScheme = "docker-image://"
	gitScheme   = "git://"
	// sessionHost is the host in the URLs of a client's uploads; see BuildKit's source/http/transport.go.
	sessionHost = "buildkit-session"
)

var commitSHA = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Identify returns the source that op fetches. The error is an *UnsupportedError or a malformed
// reference.
func Identify(op *pb.SourceOp) (Input, error) {
	id := op.GetIdentifier()
	switch scheme, rest, _ := strings.Cut(id, "://"); scheme {
	case "local", "oci-layout":
		return Input{Local: true}, nil
	case "docker-image":
		return identifyImage(rest)
	case "http", "https":
		if host, _, _ := strings.Cut(rest, "/"); host == sessionHost {
			return Input{Local: true}, nil
		}
		s := lock.Source{Kind: lock.URL, Ref: withoutUser(id)}
		return Input{Source: s, Written: s, Pin: op.Attrs[pb.AttrHTTPChecksum]}, nil
	case "git":
		if op.Attrs[pb.AttrGitBundle] != "" {
			return Input{}, &UnsupportedError{Identifier: id}
		}
		return identifyGit(op), nil
	default:
		return Input{}, &UnsupportedError{Identifier: id}
	}
}

func identifyImage(ref string) (Input, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Input{}, fmt.Errorf("parsing image reference %q: %w", ref, err)
	}
	named = reference.TagNameOnly(named)
	written := lock.Source{Kind: lock.Image, Ref: named.String()}
	digested, ok := named.(reference.Digested)
	if !ok {
		return Input{Source: written, Written: written}, nil
	}
	in := Input{Source: written, Written: written, Pin: digested.Digest().String()}
	if tagged, ok := named.(reference.Tagged); ok {
		in.Source.Ref = reference.TrimNamed(named).Name() + ":" + tagged.Tag()
	}
	return in, nil
}

func identifyGit(op *pb.SourceOp) Input {
	remote, fragment, _ := strings.Cut(strings.TrimPrefix(op.Identifier, gitScheme), "#")
	ref, _, _ := strings.Cut(fragment, ":")
	if full := op.Attrs[pb.AttrFullRemoteURL]; full != "" {
		remote = withoutUser(full)
	} else {
		remote = "https://" + remote
	}
	pin := op.Attrs[pb.AttrGitChecksum]
	if pin == "" && commitSHA.MatchString(ref) {
		pin = ref
	}
	if ref != "" {
		remote += "#" + ref
	}
	s := lock.Source{Kind: lock.Git, Ref: remote}
	return Input{Source: s, Written: s, Pin: pin}
}

// withoutUser returns a URL without its credentials, which do not belong in a committed lock.
func withoutUser(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		scheme, rest, ok := strings.Cut(raw, "://")
		if !ok {
			return raw // git@host:path is not a URL
		}
		host, _, _ := strings.Cut(rest, "/")
		return scheme + "://" + rest[strings.LastIndex(host, "@")+1:]
	}
	switch _, secret := u.User.Password(); {
	case u.User == nil || u.Scheme == "ssh" && !secret:
		return raw
	case u.Scheme == "ssh":
		u.User = url.User(u.User.Username())
	default:
		u.User = nil
	}
	return u.String()
}

// LockedAs returns the source that stands for in in a lock.
func (in Input) LockedAs() lock.Source {
	if in.Pin != "" {
		return in.Written
	}
	return in.Source
}

// PinIn returns the pin that f has for in, and the source that has it there: a reference with a digest can be
// locked with the digest or without.
func (in Input) PinIn(f *lock.File) (lock.Source, string, bool) {
	pin, ok := f.Pin(in.Source)
	if ok && (in.Pin == "" || in.Pin == pin || in.Source == in.Written) {
		return in.Source, pin, true
	}
	if pin, ok := f.Pin(in.Written); ok && in.Written != in.Source {
		return in.Written, pin, true
	}
	return lock.Source{}, "", false
}

// Agrees reports whether pin is compatible with the digest or commit that in itself asks for.
func (in Input) Agrees(pin string) bool {
	return in.Pin == "" || in.Pin == pin || in.Source.Kind == lock.Git && strings.HasPrefix(pin, in.Pin)
}

// Pinned returns a copy of op that fetches exactly pin. in is the Input of op.
func Pinned(op *pb.SourceOp, in Input, pin string) *pb.SourceOp {
	pinned := &pb.SourceOp{Identifier: op.Identifier, Attrs: maps.Clone(op.Attrs)}
	if pinned.Attrs == nil {
		pinned.Attrs = map[string]string{}
	}
	switch in.Source.Kind {
	case lock.Image:
		name, _, _ := strings.Cut(in.Source.Ref, "@")
		pinned.Identifier = imageScheme + name + "@" + pin
	case lock.URL:
		pinned.Attrs[pb.AttrHTTPChecksum] = pin
	case lock.Git:
		pinned.Attrs[pb.AttrGitChecksum] = pin
		// Fetch the commit itself, since the branch may have moved on.
		pinned.Attrs[pb.AttrGitFetchByCommit] = "true"
	}
	return pinned
}

// FromLayout reports whether op reads an image from an OCI layout of the client.
func FromLayout(op *pb.SourceOp) bool { return strings.HasPrefix(op.Identifier, "oci-layout://") }

// LayoutImage returns the name in full and the digest of an image that op reads from an OCI layout of the
// client. It reports whether there is such an image.
func LayoutImage(op *pb.SourceOp) (name, digest string, ok bool) {
	ref, ok := strings.CutPrefix(op.GetIdentifier(), "oci-layout://")
	if !ok {
		return "", "", false
	}
	ref, digest, _ = strings.Cut(ref, "@")
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil || digest == "" {
		return "", "", false
	}
	return reference.TagNameOnly(named).String(), digest, true
}

// KeepsGitDir reports whether op includes the repository's .git, whose content the commit does not
// determine.
func KeepsGitDir(op *pb.SourceOp) bool {
	_, fragment, _ := strings.Cut(op.Identifier, "#")
	_, dir, _ := strings.Cut(fragment, ":")
	return strings.HasPrefix(op.Identifier, gitScheme) && op.Attrs[pb.AttrKeepGitDir] == "true" && path.Join("/", dir) == "/"
}

// Operation returns an operation that fetches s, for looking it up.
func Operation(s lock.Source) *pb.SourceOp {
	switch s.Kind {
	case lock.Image:
		return &pb.SourceOp{Identifier: imageScheme + s.Ref}
	case lock.Git:
		remote, ref, _ := strings.Cut(s.Ref, "#")
		location := remote
		if u, err := gitutil.ParseURL(remote); err == nil {
			location = u.Host + path.Join("/", u.Path)
		}
		op := &pb.SourceOp{Identifier: gitScheme + location, Attrs: map[string]string{pb.AttrFullRemoteURL: remote}}
		if ref != "" {
			op.Identifier += "#" + ref
		}
		return op
	default:
		return &pb.SourceOp{Identifier: s.Ref}
	}
}
