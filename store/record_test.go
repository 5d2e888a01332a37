package store

import (
	"testing"

	"github.com/kedge-build/kedge/internal/strictjson"
	"github.com/kedge-build/kedge/rules"
	"github.com/opencontainers/go-digest"
)

// FuzzRecord reads anything as a record. It must not be taken for the record of another layer.
func FuzzRecord(f *testing.F) {
	id := digest.FromString("a")
	good := Record{Version: recordVersion, Rules: rules.Version, DiffID: id, Digest: digest.FromString("b"), Size: 1}
	data, err := strictjson.Encode(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"version":1,"rules":1,"raw":"x"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRecord(diffName(id), data)
		if err == nil && (r.DiffID != id || r.Digest.Validate() != nil) {
			t.Errorf("record %+v taken for that of %s", r, id)
		}
	})
}

// TestRecordOfAnotherVersion: results of other rules are not used. Repositories of a layer do not depend
// on rules.
func TestRecordOfAnotherVersion(t *testing.T) {
	id := digest.FromString("a")
	made := Record{Version: recordVersion, DiffID: id, Digest: digest.FromString("b"), Size: 1}
	raw := made
	raw.Raw, raw.RawDiffID, raw.RawSize, raw.Under = digest.FromString("c"), id, 1, digest.FromString("d")
	source := Record{Version: recordVersion, Digest: id, Size: 1, Repos: []string{"example.com/a"}}
	for _, test := range []struct {
		record Record
		rules  int
		used   bool
	}{
		{made, rules.Version, true}, {made, rules.Version - 1, false}, {made, rules.Version + 1, false},
		{raw, rules.Version, true}, {raw, rules.Version - 1, false}, {raw, rules.Version + 1, false},
		{source, 0, true},
	} {
		r := test.record
		r.Rules = test.rules
		data, err := strictjson.Encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseRecord(r.name(), data); (err == nil) != test.used {
			t.Errorf("%s of rules version %d: %v", r.name(), r.Rules, err)
		}
	}
}
