package report_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kedge-build/kedge/internal/testenv"
	"github.com/kedge-build/kedge/lint"
	"github.com/kedge-build/kedge/report"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// findings has one of each level: with an edit, of a whole file, and with what each format has to escape.
func findings() []lint.Finding {
	return []lint.Finding{
		{Rule: "unlocked-install", Level: lint.Warning, File: "Dockerfile", Line: 4, Excerpt: "RUN npm install", Message: "npm install does not insist on package-lock.json", Fix: "npm ci", Edit: &lint.Edit{Line: 4, Column: 5, Old: "npm install", New: "npm ci"}},
		{Rule: "piped-shell", Level: lint.Error, File: "my app, 50%/Dockerfile", Line: 3, Excerpt: "RUN curl x | sh", Message: "100% of it\n::error::runs", Fix: "ADD it"},
		{Rule: "piped-shell", Level: lint.Error, File: "my app, 50%/Dockerfile", Line: 9, Excerpt: "RUN curl x | sh", Message: "runs", Fix: "ADD it"},
		{Rule: "lock", Level: lint.Info, File: "/abs/Dockerfile", Message: "there is no lock", Fix: "kedge lock"},
	}
}

func write(t *testing.T, f report.Format, found []lint.Finding) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := report.Write(&b, f, report.NewLint("Dockerfile", found)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sarifSchema is the schema of OASIS: docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	return testenv.Schema(t, "testdata/sarif-schema-2.1.0.schema")
}

func TestSARIF(t *testing.T) {
	schema := sarifSchema(t)
	validate := func(data []byte) error {
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(value)
	}
	data := write(t, report.SARIF, findings())
	for _, data := range [][]byte{data, write(t, report.SARIF, nil)} {
		if err := validate(data); err != nil {
			t.Errorf("%v\n%s", err, data)
		}
	}
	for old, wrong := range map[string]string{`"level": "note"`: `"level": "info"`, `"startLine": 3`: `"startLine": 0`, `"ruleId"`: `"rule"`, "my%20app,%2050%25/": "my app, 50%/"} {
		if bad := bytes.Replace(data, []byte(old), []byte(wrong), 1); bytes.Equal(bad, data) || validate(bad) == nil {
			t.Errorf("the schema allows %s instead of %s", wrong, old)
		}
	}
	type results struct {
		Runs []struct {
			Results []struct {
				PartialFingerprints map[string]string
				Fixes               []json.RawMessage
			}
			Tool struct {
				Driver struct {
					Rules []struct{ ID, HelpURI string }
				}
			}
		}
	}
	var got, moved results
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	down := findings()
	for i := range down {
		down[i].Line += 7
	}
	if err := json.Unmarshal(write(t, report.SARIF, down), &moved); err != nil {
		t.Fatal(err)
	}
	prints := map[string]bool{}
	for i, r := range got.Runs[0].Results {
		if diff := cmp.Diff(r.PartialFingerprints, moved.Runs[0].Results[i].PartialFingerprints); diff != "" {
			t.Errorf("a fingerprint depends on the line:\n%s", diff)
		}
		prints[r.PartialFingerprints["kedge/v1"]] = true
	}
	if len(prints) != 4 || len(got.Runs[0].Results[0].Fixes) != 1 || len(got.Runs[0].Results[1].Fixes) != 0 {
		t.Errorf("%+v", got.Runs[0].Results)
	}
	if rules := got.Runs[0].Tool.Driver.Rules; len(rules) != len(lint.Rules) || !strings.HasSuffix(rules[0].HelpURI, "docs/lint.md#"+rules[0].ID) {
		t.Errorf("%+v", rules)
	}
}

func TestGitHub(t *testing.T) {
	const want = `::error file=my app%2C 50%25/Dockerfile,line=3,title=kedge piped-shell::100%25 of it%0A::error::runs%0AADD it
::error file=my app%2C 50%25/Dockerfile,line=9,title=kedge piped-shell::runs%0AADD it
::warning file=Dockerfile,line=4,title=kedge unlocked-install::npm install does not insist on package-lock.json%0Anpm ci
::notice file=/abs/Dockerfile,title=kedge lock::there is no lock%0Akedge lock
lint: 2 errors, 1 warning, 1 remark
`
	if diff := cmp.Diff(want, string(write(t, report.GitHub, findings()))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A page names every finding.
func TestPageOfLint(t *testing.T) {
	page := string(write(t, report.HTML, findings()))
	for _, want := range []string{"Errors", "unlocked-install", "npm install does not insist on package-lock.json. Fix: npm ci", "piped-shell", "there is no lock"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if fine := string(write(t, report.HTML, findings()[:1])); !strings.Contains(fine, "No errors") {
		t.Error("a page without errors does not say so")
	}
}

// Other verbs have neither format.
func TestFormatsOfLint(t *testing.T) {
	for _, f := range []report.Format{report.SARIF, report.GitHub} {
		if err := report.Write(&bytes.Buffer{}, f, &report.Report{Verb: "lock", Lock: &report.Lock{}}); err == nil {
			t.Errorf("a lock as %s", f)
		}
	}
}
