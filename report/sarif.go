package report

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"github.com/kedge-build/kedge/lint"
)

// errNotLint says that a report has no findings to write.
var errNotLint = errors.New("only lint has this format")

// The objects of SARIF 2.1.0 that findings need: docs.oasis-open.org/sarif/sarif/v2.1.0.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool struct {
			Driver sarifDriver `json:"driver"`
		} `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID      string       `json:"id"`
		Short   sarifMessage `json:"shortDescription"`
		Full    sarifMessage `json:"fullDescription"`
		Help    sarifMessage `json:"help"`
		HelpURI string       `json:"helpUri"`
		Default struct {
			Level string `json:"level"`
		} `json:"defaultConfiguration"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		Level        string            `json:"level"`
		Message      sarifMessage      `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
		Fixes        []sarifFix        `json:"fixes,omitempty"`
	}
	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int           `json:"startLine"`
		StartColumn int           `json:"startColumn,omitempty"`
		EndColumn   int           `json:"endColumn,omitempty"`
		Snippet     *sarifMessage `json:"snippet,omitempty"`
	}
	sarifFix struct {
		Description sarifMessage  `json:"description"`
		Changes     []sarifChange `json:"artifactChanges"`
	}
	sarifChange struct {
		Artifact     sarifArtifact      `json:"artifactLocation"`
		Replacements []sarifReplacement `json:"replacements"`
	}
	sarifReplacement struct {
		Deleted  sarifRegion  `json:"deletedRegion"`
		Inserted sarifMessage `json:"insertedContent"`
	}
)

const home = "https://github.com/kedge-build/kedge"

var sarifLevels = map[string]string{string(lint.Error): "error", string(lint.Warning): "warning", string(lint.Info): "note"}

// writeSARIF writes findings as SARIF 2.1.0.
func writeSARIF(w io.Writer, r *Report) error {
	if r.Lint == nil {
		return errNotLint
	}
	run := sarifRun{ColumnKind: "unicodeCodePoints", Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "kedge", InformationURI: home}
	for _, rule := range lint.Rules {
		out := sarifRule{
			ID: rule.ID, Short: sarifMessage{rule.What}, Full: sarifMessage{rule.Why}, Help: sarifMessage{rule.Fix},
			HelpURI: home + "/blob/main/docs/lint.md#" + rule.ID,
		}
		out.Default.Level = sarifLevels[string(rule.Level)]
		run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, out)
	}
	seen := map[string]int{}
	for _, f := range r.Findings {
		file := sarifArtifact{fileURI(f.File)}
		result := sarifResult{
			RuleID: f.Rule, Level: sarifLevels[f.Level], Message: sarifMessage{f.Message + ". Fix: " + f.Fix},
			Locations:    []sarifLocation{{sarifPhysical{Artifact: file}}},
			Fingerprints: map[string]string{"kedge/v1": fingerprint(f, seen)},
		}
		if f.Line > 0 {
			region := &sarifRegion{StartLine: f.Line}
			if f.Excerpt != "" {
				region.Snippet = &sarifMessage{f.Excerpt}
			}
			result.Locations[0].Physical.Region = region
		}
		if e := f.Edit; e != nil {
			end := e.Column + len([]rune(e.Old))
			result.Fixes = []sarifFix{{sarifMessage{f.Fix}, []sarifChange{{file, []sarifReplacement{
				{sarifRegion{StartLine: e.Line, StartColumn: e.Column, EndColumn: end}, sarifMessage{e.New}},
			}}}}}
		}
		run.Results = append(run.Results, result)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(sarifLog{"https://json.schemastore.org/sarif-2.1.0.json", "2.1.0", []sarifRun{run}})
}

// fingerprint returns what stays of a finding if the lines above it change: the first 32 hex digits of the SHA-256 of
// its rule, its file's name and its line's text, each ended by NUL. The second of several alike has ":2" added.
func fingerprint(f Finding, seen map[string]int) string {
	sum := sha256.Sum256([]byte(f.Rule + "\x00" + filepath.ToSlash(f.File) + "\x00" + f.Excerpt + "\x00"))
	printed := hex.EncodeToString(sum[:16])
	if seen[printed]++; seen[printed] > 1 {
		printed = fmt.Sprintf("%s:%d", printed, seen[printed])
	}
	return printed
}

// fileURI returns a file's name as a URI: relative, or file:// and an absolute path.
func fileURI(name string) string {
	name = path.Clean(filepath.ToSlash(name))
	if path.IsAbs(name) {
		return (&url.URL{Scheme: "file", Path: name}).String()
	}
	return (&url.URL{Path: name}).String()
}

// writeGitHub writes findings as commands of GitHub Actions, errors first: it shows ten of each level for a step.
func writeGitHub(w io.Writer, r *Report) error {
	if r.Lint == nil {
		return errNotLint
	}
	t := &printer{}
	for _, level := range []lint.Level{lint.Error, lint.Warning, lint.Info} {
		for _, f := range r.Findings {
			if f.Level != string(level) {
				continue
			}
			line := ""
			if f.Line > 0 {
				line = fmt.Sprintf(",line=%d", f.Line)
			}
			command := map[lint.Level]string{lint.Error: "error", lint.Warning: "warning", lint.Info: "notice"}[level]
			fmt.Fprintf(t, "::%s file=%s%s,title=%s::%s\n", command, property.Replace(f.File), line, property.Replace("kedge "+f.Rule), data.Replace(f.Message+"\n"+f.Fix))
		}
	}
	t.printf("%s\n", r.headline())
	_, err := w.Write(t.Bytes())
	return err
}

// How GitHub Actions takes text: docs.github.com/actions/reference/workflow-commands-for-github-actions.
var (
	data     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)
