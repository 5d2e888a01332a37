package rules

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	every := ids()
	for s, off := range map[string][]string{
		"all":                       nil,
		"none":                      every,
		"-histories,-machine-id":    {"machine-id", "histories"},
		"-machine-id,-histories":    {"machine-id", "histories"},
		"all,-histories":            {"histories"},
		"-histories,+histories":     nil,
		"none,+repeats,-repeats":    every,
		"none,+repeats":             every[1:],
		"+histories":                nil,
		"-histories,-histories":     {"histories"},
		"all,+repeats,-gzip-header": {"gzip-header"},
	} {
		if got, err := Parse(s); err != nil || !slices.Equal(got.Off, off) {
			t.Errorf("%q: %q, %v", s, got.Off, err)
		}
	}
	for _, s := range []string{"", "histories", "-", "-nothing", "-histories,none", "all,all", "-histories, -repeats"} {
		if _, err := Parse(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
	if _, err := (Set{Version: Version + 1}).Check(); err == nil {
		t.Error("rules of a later kedge are taken")
	}
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range table {
		if seen[r.ID] || r.What == "" || r.Why == "" || !strings.HasPrefix(r.Link, "https://") || r.since < 1 || r.since > Version {
			t.Errorf("rule %q", r.ID)
		}
		seen[r.ID] = true
		for _, p := range r.paths {
			if strings.HasPrefix(p, "/") || strings.HasSuffix(p, "/") || strings.Contains(p, "//") {
				t.Errorf("rule %q: path %q", r.ID, p)
			}
		}
	}
}
