package report_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/report"
)

// TestSchema holds the golden reports to docs/report.schema.json, and the schema to what they must not be.
func TestSchema(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden reports: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := testenv.CheckReport(t, data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for name, change := range map[string]func(map[string]any){
			"another version": func(r map[string]any) { r["version"] = 2 },
			"no verb":         func(r map[string]any) { delete(r, "verb") },
			"an unknown key":  func(r map[string]any) { r["old"] = "x" },
			"two kinds":       func(r map[string]any) { r["digest"], r["same"] = 1, 1 },
		} {
			var r map[string]any
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			change(r)
			bad, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			if testenv.CheckReport(t, bad) == nil {
				t.Errorf("%s: the schema allows %s", file, name)
			}
		}
	}
	verdict, err := os.ReadFile("testdata/verify.json")
	if err != nil {
		t.Fatal(err)
	}
	for old, new := range map[string]string{`"paths"`: `"files"`, `"change": "changed"`: `"change": "moved"`, `"mode": "`: `"mode": "rwx`, `"first": {`: `"old": {`} {
		if bad := strings.Replace(string(verdict), old, new, 1); bad == string(verdict) || testenv.CheckReport(t, []byte(bad)) == nil {
			t.Errorf("the schema allows %s", new)
		}
	}
}

// TestSchemaKinds holds the schema to every kind of source and of change that a lockfile has.
func TestSchemaKinds(t *testing.T) {
	sources := []lock.Kind{lock.Image, lock.Local, lock.URL, lock.Git}
	img, changed := &report.Image{Names: []string{}, Normalised: map[string]map[string][]string{}, Rules: map[string]string{}}, &report.Lock{}
	for _, kind := range sources {
		img.Pins = append(img.Pins, report.Pin{Kind: string(kind), Ref: "a", Digest: "b"})
		changed.Changes = append(changed.Changes, report.LockChange{Kind: string(kind), Ref: "a", New: "b"})
	}
	for _, kind := range []string{"target", "strict-target", "epoch", "rules"} {
		changed.Changes = append(changed.Changes, report.LockChange{Kind: kind, New: "b"})
	}
	for _, r := range []*report.Report{{Version: report.Version, Verb: "build", Image: img}, {Version: report.Version, Verb: "lock", Lock: changed}} {
		var b bytes.Buffer
		if err := report.Write(&b, report.JSON, r); err != nil {
			t.Fatal(err)
		}
		if err := testenv.CheckReport(t, b.Bytes()); err != nil {
			t.Errorf("%s: %v", r.Verb, err)
		}
	}
}
