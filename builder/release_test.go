package builder

import (
	"testing"
	"time"

	"github.com/moby/buildkit/client"
)

func TestLeftoverMatches(t *testing.T) {
	from := time.Unix(1700000000, 0)
	to := from.Add(time.Minute)
	run := leftover{name: "[2/3] RUN true", args: "/bin/sh -c true", from: from, to: to}
	copied := leftover{name: "[3/3] COPY a b", from: from, to: to}
	cache := leftover{namespace: "kedge-1234567890"}
	folder := leftover{name: "[internal] load build context", folder: "context", from: from, to: to}
	synced := func(name string, created time.Time) *client.UsageInfo {
		return &client.UsageInfo{Description: "local source for " + name, CreatedAt: created, RecordType: client.UsageRecordTypeLocalSource}
	}
	record := func(description string, created time.Time) *client.UsageInfo {
		return &client.UsageInfo{Description: description, CreatedAt: created, RecordType: client.UsageRecordTypeRegular}
	}
	cached := func(id string) *client.UsageInfo {
		return &client.UsageInfo{RecordType: client.UsageRecordTypeCacheMount, CreatedAt: from.Add(-time.Hour),
			Description: `cached mount /c from exec /bin/sh -c true with id "` + id + `"`}
	}
	tests := []struct {
		name string
		left leftover
		info *client.UsageInfo
		want bool
	}{
		{"run", run, record("mount / from exec /bin/sh -c true", from.Add(time.Second)), true},
		{"first moment", run, record("mount / from exec /bin/sh -c true", from), true},
		{"last moment", run, record("mount / from exec /bin/sh -c true", to), true},
		{"other mount of the run", run, record("mount /m from exec /bin/sh -c true", from), true},
		{"run of the first build", run, record("mount / from exec /bin/sh -c true", from.Add(-1)), false},
		{"run after", run, record("mount / from exec /bin/sh -c true", to.Add(1)), false},
		{"other command", run, record("mount / from exec /bin/sh -c true && x", from), false},
		{"other shell", run, record("mount / from exec /usr/bin/sh -c true", from), false},
		{"record with its name only", run, record("[2/3] RUN true", from), false},
		{"copy", copied, record("[3/3] COPY a b", from), true},
		{"copy of the first build", copied, record("[3/3] COPY a b", from.Add(-1)), false},
		{"other copy", copied, record("[3/3] COPY a bc", from), false},
		{"copy of another stage", copied, record("[app 3/3] COPY a b", from), false},
		{"base image", copied, record("pulled from docker.io/library/debian:12", from), false},
		{"folder", folder, synced("context", from), true},
		{"folder synced before", folder, synced("context", from.Add(-1)), false},
		{"other folder", folder, synced("context-b", from), false},
		{"step with the name of a folder", folder, record("local source for context", from), false},
		{"cache mount", cache, cached("kedge-1234567890/c"), true},
		{"cache mount of the user", cache, cached("c"), false},
		{"cache mount of another verification", cache, cached("kedge-1234567891/c"), false},
		{"run whose command has the namespace", cache, record("mount / from exec echo kedge-1234567890", from), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.left.matches(test.info); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
