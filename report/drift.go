package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/kedge-build/kedge/diff"
	"github.com/kedge-build/kedge/drift"
	"github.com/kedge-build/kedge/lint"
)

// Drift says whether an image is within the thresholds.
type Drift struct {
	Within   bool          `json:"within"`
	Settings string        `json:"settings,omitempty"` // the file with the thresholds; absent if there is none
	Reasons  []DriftReason `json:"reasons"`            // those that fail first, the largest first
	Counts   []DriftCount  `json:"counts"`
	Apart    []File        `json:"apart"` // paths that differ below volumes and tmpfs
	Sources  []Setting     `json:"sources"`
	Diff     *Diff         `json:"diff"`
}

// DriftReason is why an image is beyond the thresholds, or what should be known about it.
type DriftReason struct {
	Level  string  `json:"level"` // fail or warn
	Text   string  `json:"text"`
	Rule   string  `json:"rule,omitempty"`   // the reason of the rule that decided
	Excess float64 `json:"excess,omitempty"` // how many times the threshold it is; absent if it has none
}

// DriftCount is what one threshold is about.
type DriftCount struct {
	What   string `json:"what"`
	Value  string `json:"value"`
	Limit  string `json:"limit,omitempty"` // absent if there is no threshold
	Beyond bool   `json:"beyond"`
}

// NewDrift reports how an image has drifted from a record. The names are those of the two sides.
func NewDrift(d *drift.Difference, v *drift.Verdict, settings, first, second string) *Report {
	out := &Drift{Within: v.Within, Settings: settings, Reasons: []DriftReason{}, Counts: []DriftCount{}, Apart: []File{}, Sources: []Setting{}}
	for _, r := range v.Reasons {
		excess := r.Excess
		if math.IsInf(excess, 1) {
			excess = 0
		}
		out.Reasons = append(out.Reasons, DriftReason{string(r.Level), r.Text, r.Rule, excess})
	}
	for _, c := range v.Counts {
		out.Counts = append(out.Counts, DriftCount(c))
	}
	for _, f := range d.Apart {
		out.Apart = append(out.Apart, newFiles([]diff.File{f.File})[0])
	}
	for _, s := range d.Sources {
		out.Sources = append(out.Sources, Setting{s.Key, Change(s.Change), s.First, s.Second})
	}
	result := &diff.Result{
		First:  diff.Side{Name: first, Digest: d.First.Digest, Platform: d.First.Platform},
		Second: diff.Side{Name: second, Digest: d.Second.Digest, Platform: d.Second.Platform},
		Config: d.Config, Shared: []string{}, Sizes: &diff.Sizes{First: d.First.Download, Second: d.Second.Download},
	}
	for _, f := range d.Files {
		result.Files = append(result.Files, f.File)
	}
	for _, p := range d.Packages {
		result.Packages = append(result.Packages, p.Package)
	}
	result.Same = len(d.Files)+len(d.Apart)+len(d.Packages)+len(d.Config)+len(d.Sources) == 0
	out.Diff = NewDiff("", result, nil).Diff
	return &Report{Version: Version, Verb: "drift check", Drift: out}
}

// headline is the answer in a line.
func (d *Drift) headline() string {
	fails := 0
	for _, r := range d.Reasons {
		if r.Level == string(drift.Fail) {
			fails++
		}
	}
	switch {
	case !d.Within:
		return "drift beyond the thresholds: " + Counted(fails, "reason")
	case d.Diff.Same:
		return "no drift"
	}
	return "drift within the thresholds"
}

// Words says the reason, with that of its rule.
func (r DriftReason) Words() string {
	if r.Rule != "" {
		return r.Text + " (" + r.Rule + ")"
	}
	return r.Text
}

// drift prints why an image is accepted or rejected.
func (t *printer) drift(d *Drift) {
	t.printf("%s\n", d.headline())
	for i, reason := range d.Reasons {
		if i == maxPaths {
			t.printf("  and %d more (--format json has all)\n", len(d.Reasons)-i)
			break
		}
		t.printf("  %s  %s\n", reason.Level, reason.Words())
	}
	if !d.Within {
		t.printf("  if that is meant: kedge drift accept REASON, and commit the record\n")
	}
}

// reasons writes the tables that a reviewer reads first.
func (t *printer) reasons(d *Drift) {
	if len(d.Reasons) > 0 {
		t.printf("\n| | reason | rule |\n| --- | --- | --- |\n")
	}
	for i, reason := range d.Reasons {
		if i == maxPaths {
			t.printf("\nand %d more\n", len(d.Reasons)-i)
			break
		}
		t.printf("| %s | %s | %s |\n", escape(reason.Level), escape(reason.Text), escape(reason.Rule))
	}
	t.printf("\n| | drift | at most |\n| --- | ---: | ---: |\n")
	for _, c := range d.Counts {
		t.printf("| %s | %s | %s |\n", escape(c.What), escape(c.Value), escape(c.Limit))
	}
}

// driftLog prints the builds, the newest first.
func (t *printer) driftLog(l *DriftLog) {
	if len(l.Builds) == 0 {
		t.printf("git has no build of %s\n", l.Record)
		return
	}
	w := tabwriter.NewWriter(t, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COMMIT\tDATE\tDIGEST\tSIZE\tFILES\tPACKAGES\tMOVED MOST")
	for i := range slices.Backward(l.Builds) {
		b := &l.Builds[i]
		moved := strings.Join(b.most(), ", ")
		if b.Reason != "" {
			moved = strings.TrimSpace(fmt.Sprintf("%s (accepted: %s)", moved, shortened(plain(b.Reason), 100)))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%s\n", plain(b.commit()), b.Time.Format(time.DateOnly), plain(b.short()),
			human(b.Size), b.Files, b.Packages, moved)
	}
	_ = w.Flush() // a buffer takes all
	for i, o := range l.Often {
		if i == 0 {
			t.printf("\nmoves most often\n")
		}
		if i == maxPaths {
			t.printf("  and %d more (--format json has all)\n", len(l.Often)-i)
			break
		}
		with := o.with()
		if with != "" {
			with = "; lint: " + with
		}
		t.printf("  %s  %s %s%s\n", Counted(o.Builds, "build"), o.Kind, shortened(o.Name, 80), with)
	}
	for i, f := range l.found() {
		if i == 0 {
			t.printf("\nfindings of lint\n")
		}
		t.printf("  %s  %s (practice %d), %s\n", Counted(f.builds, "build"), plain(f.rule), f.practice, f.last())
	}
}

// driftTable writes the builds as a table, the newest first.
func (t *printer) driftTable(l *DriftLog) {
	t.printf("\n| commit | date | size | files, packages | moved most | accepted because |\n| --- | --- | ---: | ---: | --- | --- |\n")
	for i := range slices.Backward(l.Builds) {
		b := &l.Builds[i]
		t.printf("| %s | %s | %s | %s, %s | %s | %s |\n", code(b.commit()), b.Time.Format(time.DateOnly), human(b.Size),
			grouped(b.Files), grouped(b.Packages), escape(strings.Join(b.most(), ", ")), escape(b.Reason))
	}
}

// ruleBuilds counts the builds that came with findings of a rule.
type ruleBuilds struct {
	rule             string
	practice, builds int
	now              int // findings in the last build
}

func (f ruleBuilds) last() string { return Counted(f.now, "finding") + " in the last" }

// found counts lint's findings, by rule.
func (l *DriftLog) found() []ruleBuilds {
	var list []ruleBuilds
	for i := range l.Builds {
		for _, f := range l.Builds[i].Findings {
			at := slices.IndexFunc(list, func(r ruleBuilds) bool { return r.rule == f.Rule })
			if at < 0 {
				at = len(list)
				list = append(list, ruleBuilds{rule: f.Rule, practice: f.Practice})
			}
			list[at].builds++
			if i == len(l.Builds)-1 {
				list[at].now = f.Count
			}
		}
	}
	slices.SortFunc(list, func(a, b ruleBuilds) int {
		return cmp.Or(cmp.Compare(b.builds, a.builds), cmp.Compare(a.practice, b.practice), cmp.Compare(a.rule, b.rule))
	})
	return list[:min(len(list), maxFound)]
}

// maxFound bounds the rules that a history lists.
const maxFound = 50

// commit is the start of the commit's name.
func (b *DriftBuild) commit() string { return b.Commit[:min(len(b.Commit), 10)] }

// short is the start of the digest.
func (b *DriftBuild) short() string {
	_, hex, _ := strings.Cut(b.Digest, ":")
	return hex[:min(len(hex), 12)]
}

// DriftLog is the history of a record.
type DriftLog struct {
	Record string       `json:"record"`
	Builds []DriftBuild `json:"builds"` // the oldest first
	Often  []DriftOften `json:"often"`  // what has moved in most builds
}

// DriftBuild is a commit that changed the record.
type DriftBuild struct {
	Commit   string       `json:"commit"`
	Time     time.Time    `json:"time"`
	Subject  string       `json:"subject"`
	Reason   string       `json:"reason,omitempty"` // why it was accepted
	Digest   string       `json:"digest"`
	Base     string       `json:"base,omitempty"`
	Size     int64        `json:"size"`     // of the files, in bytes
	Download int64        `json:"download"` // of the layers' blobs, in bytes
	Files    int          `json:"files"`
	Packages int          `json:"packages"`
	Layers   []DriftLayer `json:"layers"`
	// Findings are those of lint before the build.
	Findings []DriftFinding `json:"findings,omitempty"`
	Moved    []DriftMove    `json:"moved"` // against the build before, at most 200
}

// DriftLayer is a layer of a build.
type DriftLayer struct {
	DiffID string `json:"diffID"`
	Size   int64  `json:"size"` // of its files, in bytes
	By     string `json:"by,omitempty"`
}

// DriftMove is something that moved from one build to the next.
type DriftMove struct {
	Kind  string `json:"kind"` // base, package, folder or layer
	Name  string `json:"name"`
	First string `json:"first,omitempty"` // the version of a package
	// Second is absent for a package that was removed.
	Second string `json:"second,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"` // by which a folder or a layer has grown
}

// DriftFinding counts what a rule of lint found, or the builds that came with its findings.
type DriftFinding struct {
	Rule     string `json:"rule"`
	Practice int    `json:"practice"` // 0 if this kedge does not know the rule
	Count    int    `json:"count"`
}

// DriftOften counts the builds in which something moved.
type DriftOften struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Builds int    `json:"builds"`
	// Rules count those of the builds that came with findings of a rule of lint, the most frequent first.
	Rules []DriftFinding `json:"rules,omitempty"`
}

// with names the rules, "" if there are none.
func (o DriftOften) with() string {
	var words []string
	for i, f := range o.Rules {
		if i == maxAlike {
			words = append(words, fmt.Sprintf("%d more", len(o.Rules)-i))
			break
		}
		words = append(words, fmt.Sprintf("%s in %d", plain(f.Rule), f.Count))
	}
	return strings.Join(words, ", ")
}

// practice returns the practice of a rule of lint.
func practice(rule string) int {
	if r := lint.Find(rule); r != nil {
		return r.Practice
	}
	return 0
}

// NewDriftLog reports the history of the record at path.
func NewDriftLog(path string, h *drift.History) *Report {
	out := &DriftLog{Record: path, Builds: []DriftBuild{}, Often: []DriftOften{}}
	for _, b := range h.Builds {
		build := DriftBuild{
			Commit: b.Commit, Time: b.Time, Subject: b.Subject, Reason: b.Reason, Digest: b.Digest, Base: b.Base,
			Size: b.Size, Download: b.Download, Files: b.Files, Packages: b.Packages, Layers: []DriftLayer{}, Moved: []DriftMove{},
		}
		for _, l := range b.Layers {
			build.Layers = append(build.Layers, DriftLayer(l))
		}
		for _, m := range b.Moved {
			build.Moved = append(build.Moved, DriftMove{m.Kind, m.Name, m.From, m.To, m.Bytes})
		}
		for _, rule := range slices.Sorted(maps.Keys(b.Findings)) {
			build.Findings = append(build.Findings, DriftFinding{rule, practice(rule), b.Findings[rule]})
		}
		out.Builds = append(out.Builds, build)
	}
	for _, o := range h.Often {
		often := DriftOften{Kind: o.Kind, Name: o.Name, Builds: o.Builds}
		for _, rule := range slices.Sorted(maps.Keys(o.Rules)) {
			often.Rules = append(often.Rules, DriftFinding{rule, practice(rule), o.Rules[rule]})
		}
		slices.SortStableFunc(often.Rules, func(a, b DriftFinding) int { return cmp.Compare(b.Count, a.Count) })
		out.Often = append(out.Often, often)
	}
	return &Report{Version: Version, Verb: "drift log", DriftLog: out}
}

// words says what moved.
func (m DriftMove) words() string {
	switch {
	case m.Kind == "folder" || m.Kind == "layer":
		return shortened(plain(m.Name), 60) + " " + m.change()
	case m.First == "":
		return fmt.Sprintf("%s %s added", plain(m.Name), plain(m.Second))
	case m.Second == "":
		return fmt.Sprintf("%s removed", plain(m.Name))
	}
	return fmt.Sprintf("%s %s -> %s", plain(m.Name), plain(m.First), plain(m.Second))
}

// most names what moved most: the packages, and the folder that grew or shrank most.
func (b *DriftBuild) most() []string {
	const most = 3
	var words []string
	var folder string
	packages := 0
	for _, m := range b.Moved {
		switch {
		case m.Kind == "folder" && folder == "":
			folder = m.words()
		case m.Kind == "package" || m.Kind == "base":
			if packages++; packages <= most {
				words = append(words, m.words())
			}
		}
	}
	if packages > most {
		words = append(words, fmt.Sprintf("%d more", packages-most))
	}
	if folder != "" {
		words = append(words, folder)
	}
	return words
}

// Promotion says whether an image may go from one repository to another, and whether it did.
type Promotion struct {
	From       string      `json:"from"`
	To         string      `json:"to"`
	Digest     string      `json:"digest"`
	Yes        bool        `json:"yes"`
	DryRun     bool        `json:"dryRun"` // nothing was copied
	Conditions []Condition `json:"conditions"`
}

// Condition is one that an image has to meet.
type Condition struct {
	Name string `json:"name"`
	Yes  bool   `json:"yes"`
	Text string `json:"text"` // why
}

// NewPromotion reports the answers about an image. It is promoted only if all are yes.
func NewPromotion(from, to, digest string, dryRun bool, conditions []Condition) *Report {
	p := &Promotion{From: from, To: to, Digest: digest, DryRun: dryRun, Conditions: conditions, Yes: true}
	for _, c := range conditions {
		p.Yes = p.Yes && c.Yes
	}
	return &Report{Version: Version, Verb: "promote", Promotion: p}
}

func (c Condition) answer() string {
	if c.Yes {
		return "yes"
	}
	return "no"
}

func (p *Promotion) headline() string {
	switch {
	case !p.Yes:
		return "not promoted"
	case p.DryRun:
		return "may be promoted"
	}
	return "promoted"
}

func (t *printer) promotion(p *Promotion) {
	for _, c := range p.Conditions {
		t.printf("%-4s %-9s %s\n", c.answer(), c.Name, c.Text)
	}
	t.printf("%s\n  from    %s\n  to      %s\n  digest  %s\n", p.headline(), p.From, p.To, p.Digest)
}
