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

// Input is what one source operation of a build fetches.
type Input struct {
	// Source is what a lock knows it by.
	Source lock.Source
	// Written is the source with the digest that the reference itself carries, and otherwise Source.
	// A frontend that has resolved debian:12 asks for debian:12@sha256:…, as a Dockerfile may.
	Written lock.Source
	// Pin is the digest or commit that the operation asks for by itself, or empty. For Git it may be
	// the beginning of a commit.
	Pin string
	// Local is true where nothing is fetched: the build context and other things that the client
	// itself hands over. All other fields are empty then.
	Local bool
}

// UnsupportedError says that a source is of a kind that no lock can pin.
type UnsupportedError struct{ Identifier string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("source %q is of a kind that cannot be locked", withoutUser(e.Identifier))
}

const (
	imageScheme = "docker-image://"
	gitScheme   = "git://"
	// sessionHost is where BuildKit fetches what the client uploads; see its source/http/transport.go.
	sessionHost = "buildkit-session"
)

var commitSHA = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)

// Identify says what op fetches. The error is an *UnsupportedError, or says what is wrong with the
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

// withoutUser drops the credentials of a URL: they are not what is fetched, and a lock is committed.
func withoutUser(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		scheme, rest, ok := strings.Cut(raw, "://")
		if !ok {
			return raw // git@host:path, and not a URL
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

// Pinned returns a copy of op that fetches nothing but pin.
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
		// A branch that has moved on still has the commit: ask for that, not for the branch's tip.
		pinned.Attrs[pb.AttrGitFetchByCommit] = "true"
	}
	return pinned
}

// FromLayout reports whether op yields an image of an OCI layout, which the client hands over.
func FromLayout(op *pb.SourceOp) bool { return strings.HasPrefix(op.Identifier, "oci-layout://") }

// KeepsGitDir reports whether op yields a repository with its .git, of which a commit does not say all: it is
// as git made it there and then.
func KeepsGitDir(op *pb.SourceOp) bool {
	_, fragment, _ := strings.Cut(op.Identifier, "#")
	_, dir, _ := strings.Cut(fragment, ":")
	return strings.HasPrefix(op.Identifier, gitScheme) && op.Attrs[pb.AttrKeepGitDir] == "true" && path.Join("/", dir) == "/"
}

// Operation returns the operation that fetches s, for looking it up anew.
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
