package builder

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/lock"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/apicaps"
)

// The rewriter decides which copies get the epoch, how sources are fetched, and which caches are shared.
func TestTimes(t *testing.T) {
	archive := &Archive{sum: "0123"}
	caps := pb.Caps.CapSet(pb.Caps.All())
	none := pb.Caps.CapSet(nil)
	const checked = "https://example.com/x"
	from := map[string]llb.State{
		"folder":  llb.Local("context", llb.SharedKeyHint("context")),
		"archive": llb.HTTP(archive.uploadURL(epoch, false), llb.Filename("context")),
		"git":     llb.Git("https://example.com/r.git", "main", llb.GitMTimeCommit()),
		"url":     llb.HTTP(checked),
		"image":   llb.Image("docker.io/library/tiny:1"),
	}
	type outcome struct {
		Stamped bool
		Source  string // what differs from the source as it was
		Cache   string
	}
	const stamped, another = true, "id@"
	second := Pass{salt: 300}
	for _, test := range []struct {
		name, from string
		caps       apicaps.CapSet
		pass       Pass
		epoch      time.Time
		target     string
		want       outcome
	}{
		{"a folder", "folder", caps, Pass{}, epoch, "/obj", outcome{!stamped, "context@1700000000", "id"}},
		{"an archive", "archive", caps, Pass{}, epoch, "/obj", outcome{!stamped, archive.uploadURL(epoch, true), "id"}},
		{"git", "git", caps, Pass{}, epoch, "/obj", outcome{!stamped, "checkout@1700000000", "id"}},
		{"git on an old builder", "git", none, Pass{}, epoch, "/obj", outcome{stamped, "", another}},
		{"a URL", "url", caps, Pass{}, epoch, "/obj", outcome{stamped, "", another}},
		{"an image", "image", caps, Pass{}, epoch, "/obj", outcome{!stamped, "", "id"}},
		{"downloads", "folder", caps, Pass{}, epoch, "/go/pkg/mod", outcome{stamped, "", "id"}},
		{"the second build", "folder", caps, second, epoch, "/obj", outcome{stamped, "", "id"}},
		{"a URL in the second build", "url", caps, second, epoch, "/obj", outcome{stamped, "", "id"}},
		{"an epoch to come", "folder", caps, Pass{}, time.Now().Add(time.Hour), "/obj", outcome{stamped, "", "id"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			st := llb.Image("debian").File(llb.Copy(from[test.from], "a", "/"))
			g, err := graphOf(t.Context(), st.Run(llb.Shlex("make"), llb.AddMount(test.target, llb.Scratch(), llb.AsPersistentCacheDir("id", llb.CacheMountShared))).Root())
			if err != nil {
				t.Fatal(err)
			}
			j := newJob(nil, &Request{Context: Context{Archive: archive}, Lock: &lock.File{}, Epoch: test.epoch}, test.pass)
			r := j.newRewriter(&definition{parts: []part{{graph: g}}}, test.caps)
			var got outcome
			if _, err := g.Rewrite(func(v frontend.Vertex) {
				before := v.Op.CloneVT()
				r.edit(v)
				if src := v.Op.GetSource(); src != nil && !src.EqualVT(before.GetSource()) {
					got.Source = src.Identifier
					for _, key := range []string{pb.AttrSharedKeyHint, pb.AttrGitMTime} {
						if value := src.Attrs[key]; value != before.GetSource().Attrs[key] {
							got.Source = value
						}
					}
				}
				if actions := v.Op.GetFile().GetActions(); len(actions) > 0 {
					got.Stamped = actions[0].GetCopy().Timestamp == j.epoch.UnixNano()
					// If the copy does not have the epoch, the cache key has it.
					keyed := slices.ContainsFunc(actions, func(a *pb.FileAction) bool {
						return a.GetMkdir().GetTimestamp() == j.epoch.UnixNano() && a.Output == -1
					})
					if keyed == got.Stamped {
						t.Errorf("stamped: %v, epoch in the key: %v", got.Stamped, keyed)
					}
				}
				for _, m := range v.Op.GetExec().GetMounts() {
					if m.CacheOpt != nil {
						got.Cache = m.CacheOpt.ID
					}
				}
			}); err != nil {
				t.Fatal(err)
			}
			if test.want.Cache == another && strings.HasPrefix(got.Cache, another) {
				got.Cache = another
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
