package drift

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/kedge-build/kedge/diff"
)

// A Verdict says whether a difference is within the thresholds.
type Verdict struct {
	Within  bool
	Reasons []Reason // those of level Fail first, the largest first
	Counts  []Count
	Bytes   int64 // by which the image has grown, without what rules and volumes keep out
}

// A Reason is something that a verdict says.
type Reason struct {
	Level Level // Warn or Fail
	Text  string
	Rule  string // the reason of the rule that decided, if one did
	// Excess is how many times its threshold the difference is; infinite for what has no threshold.
	Excess float64
}

// A Count is what a threshold is about.
type Count struct {
	What         string
	Value, Limit string // the limit is empty if there is none
	Beyond       bool
}

// judge collects what a verdict says.
type judge struct {
	settings *Settings
	now      time.Time
	verdict  *Verdict
	ended    map[*Rule]bool
	paths    map[*Rule]*tally
}

// tally counts the paths that a rule is about.
type tally struct{ files, bytes int64 }

// Judge judges a difference. The clock decides which rules have ended.
func Judge(d *Difference, s Settings, now time.Time) *Verdict {
	j := &judge{settings: &s, now: now, verdict: &Verdict{}, ended: map[*Rule]bool{}, paths: map[*Rule]*tally{}}
	j.guards(d)
	j.files(d)
	j.packages(d.Packages)
	for i := range s.Rules {
		if rule := &s.Rules[i]; j.ended[rule] {
			j.say(Warn, 0, "the rule for %s ended on %s", rule, rule.Until.AddDate(0, 0, -1).Format(time.DateOnly))
		}
	}
	v := j.verdict
	slices.SortStableFunc(v.Reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(b.Excess, a.Excess))
	})
	v.Within = !slices.ContainsFunc(v.Reasons, func(r Reason) bool { return r.Level == Fail })
	return v
}

func (j *judge) say(level Level, excess float64, format string, args ...any) {
	j.verdict.Reasons = append(j.verdict.Reasons, Reason{Level: level, Excess: excess, Text: fmt.Sprintf(format, args...)})
}

// find returns the rule that decides, and remembers one that has ended.
func (j *judge) find(matches func(*Rule) bool) *Rule {
	found, ended := j.settings.find(j.now, matches)
	if ended != nil {
		j.ended[ended] = true
	}
	return found
}

// guarded says what no threshold lets pass in silence. A rule can make it a warning, and no less.
func (j *judge) guarded(rule *Rule, format string, args ...any) {
	r := Reason{Level: Fail, Text: fmt.Sprintf(format, args...), Excess: math.Inf(1)}
	if rule != nil {
		r.Rule = rule.Reason
		if rule.Level != Fail {
			r.Level = Warn
		}
	}
	j.verdict.Reasons = append(j.verdict.Reasons, r)
}

// guardedSettings are the settings of the config that no threshold lets pass, by the start of their keys.
var guardedSettings = []struct{ key, word string }{
	{"config.User", "USER"}, {"config.Entrypoint", "ENTRYPOINT"}, {"config.Env", "ENV"}, {"config.ExposedPorts", "port"}, {"base", "base distribution"},
}

func (j *judge) guards(d *Difference) {
	for _, m := range d.NewlyMarked {
		j.guarded(j.find(func(r *Rule) bool { return r.matchesPath(m.Path) }), "new %s path: %s", m.What, m.Path)
	}
	for _, c := range d.Config {
		for _, g := range guardedSettings {
			if c.Key != g.key && !strings.HasPrefix(c.Key, g.key+".") && !strings.HasPrefix(c.Key, g.key+"[") {
				continue
			}
			word := g.word
			if name, ok := configName(c.Key, strings.TrimPrefix(g.key, "config.")); ok && name != "" {
				word += " " + name
			}
			j.guarded(j.find(func(r *Rule) bool { return r.matchesSetting(c.Key) }), "%s", word+" "+change(c))
		}
	}
	for _, s := range d.Sources {
		if s.Change == diff.Added {
			j.guarded(j.find(func(r *Rule) bool { return r.matchesSetting("source") }), "new source of packages: %s", s.Key)
		}
	}
}

// change says how a setting differs.
func change(c diff.Setting) string {
	short := func(s string) string {
		if r := []rune(s); len(r) > 80 {
			s = string(r[:79]) + "…"
		}
		return s
	}
	switch {
	case c.Change == diff.Added && c.Second != "{}":
		return "added: " + short(c.Second)
	case c.Change == diff.Changed:
		return fmt.Sprintf("changed: %s -> %s", short(c.First), short(c.Second))
	}
	return string(c.Change)
}

// files holds the files to the thresholds, except for those that a rule is about.
func (j *judge) files(d *Difference) {
	n := map[diff.Change]int64{}
	folders := map[diff.Change]map[string]int64{diff.Added: {}, diff.Removed: {}, diff.Changed: {}}
	grown := map[string]int64{}
	for i := range d.Files {
		f := &d.Files[i]
		if rule := j.find(func(r *Rule) bool { return r.matchesPath(f.Path.Path) }); rule != nil {
			t := j.paths[rule]
			if t == nil {
				t = &tally{}
				j.paths[rule] = t
			}
			t.files++
			t.bytes += max(f.Bytes, -f.Bytes)
			continue
		}
		n[f.Change]++
		folders[f.Change][folderOf(f.Path.Path)]++
		grown[folderOf(f.Path.Path)] += f.Bytes
		j.verdict.Bytes += f.Bytes
	}
	moved := max(j.verdict.Bytes, -j.verdict.Bytes)
	most := largest(grown, func(n int64) string { return signed(n) })
	j.limit("bytes", moved, j.settings.Bytes, signed(j.verdict.Bytes), human(j.settings.Bytes), most)
	percent := 0.0
	if moved > 0 {
		percent = 100 * float64(moved) / float64(max(d.First.Size(), 1))
	}
	j.percent(percent, most)
	for _, c := range []struct {
		change diff.Change
		limit  int64
	}{{diff.Added, j.settings.FilesAdded}, {diff.Removed, j.settings.FilesRemoved}, {diff.Changed, j.settings.FilesChanged}} {
		j.count("files "+string(c.change), n[c.change], c.limit, largest(folders[c.change], func(n int64) string { return fmt.Sprint(n) }))
	}
	for i := range j.settings.Rules {
		if rule := &j.settings.Rules[i]; j.paths[rule] != nil {
			j.ruled(rule, *j.paths[rule])
		}
	}
}

// ruled judges the paths that a rule is about.
func (j *judge) ruled(rule *Rule, t tally) {
	excess := max(ratio(t.files, rule.Files), ratio(t.bytes, rule.Bytes))
	text := fmt.Sprintf("%s: %d differ, by %s in all", rule, t.files, human(t.bytes))
	r := Reason{Text: text, Rule: rule.Reason}
	switch {
	case rule.Level == Fail:
		r.Level, r.Excess = Fail, math.Inf(1)
	case rule.Level == Warn:
		r.Level = Warn
	case rule.Level == Allow && excess > 1:
		r.Level, r.Excess = Fail, excess
		r.Text += ", more than is allowed"
	default:
		return
	}
	j.verdict.Reasons = append(j.verdict.Reasons, r)
}

// ratio returns how many times a limit a number is.
func ratio(n, limit int64) float64 {
	switch {
	case limit == Any || n == 0:
		return 0
	case limit == 0:
		return math.Inf(1)
	}
	return float64(n) / float64(limit)
}

func (j *judge) count(what string, n, limit int64, most string) {
	j.limit(what, n, limit, fmt.Sprint(n), fmt.Sprint(limit), most)
}

// limit holds a number to a threshold.
func (j *judge) limit(what string, n, limit int64, value, most, detail string) {
	c := Count{What: what, Value: value, Beyond: limit != Any && n > limit}
	if limit != Any {
		c.Limit = most
	}
	j.verdict.Counts = append(j.verdict.Counts, c)
	if c.Beyond {
		j.say(Fail, ratio(n, limit), "%s: %s, at most %s%s", what, value, most, detail)
	}
}

func (j *judge) percent(percent float64, detail string) {
	limit := j.settings.Percent
	c := Count{What: "per cent", Value: fmt.Sprintf("%.1f", percent), Beyond: limit != Any && percent > limit}
	if limit != Any {
		c.Limit = fmt.Sprint(limit)
	}
	j.verdict.Counts = append(j.verdict.Counts, c)
	if c.Beyond {
		excess := math.Inf(1)
		if limit > 0 {
			excess = percent / limit
		}
		j.say(Fail, excess, "size: %s (%s %%), at most %s %%%s", signed(j.verdict.Bytes), c.Value, c.Limit, detail)
	}
}

// largest names the entry of the largest number, if there are several.
func largest(numbers map[string]int64, text func(int64) string) string {
	if len(numbers) == 0 {
		return ""
	}
	most := slices.MaxFunc(slices.Sorted(maps.Keys(numbers)), func(a, b string) int {
		return cmp.Compare(max(numbers[a], -numbers[a]), max(numbers[b], -numbers[b]))
	})
	return fmt.Sprintf("; the most in %s: %s", most, text(numbers[most]))
}

// packages holds the packages to the thresholds, except for those that a rule is about.
func (j *judge) packages(list []Package) {
	kinds := []struct {
		what  string
		limit int64
	}{
		{"packages added", j.settings.PackagesAdded}, {"packages removed", j.settings.PackagesRemoved}, {"packages up by major", j.settings.PackagesMajor},
		{"packages up by minor", j.settings.PackagesMinor}, {"packages up by patch", j.settings.PackagesPatch}, {"packages down", j.settings.PackagesLower},
	}
	counted := make([][]string, len(kinds))
	for i := range list {
		p := &list[i]
		rule := j.find(func(r *Rule) bool { return r.matchesPackage(p) })
		if rule != nil {
			j.ruledPackage(rule, p)
			continue
		}
		at := slices.Index([]Step{"added", "removed", Major, Minor, Patch, Down}, cmp.Or(p.Step, Step(p.Change)))
		counted[at] = append(counted[at], p.words())
	}
	for i, k := range kinds {
		detail := ""
		if n := len(counted[i]); n > 0 {
			detail = ": " + strings.Join(counted[i][:min(n, 3)], ", ")
			if n > 3 {
				detail += fmt.Sprintf(" and %d more", n-3)
			}
		}
		j.count(k.what, int64(len(counted[i])), k.limit, detail)
	}
}

func (j *judge) ruledPackage(rule *Rule, p *Package) {
	r := Reason{Text: "package " + p.words(), Rule: rule.Reason}
	steps := []Step{Patch, Minor, Major}
	switch {
	case rule.Level == Fail:
		r.Level, r.Excess = Fail, math.Inf(1)
	case rule.Level == Warn:
		r.Level = Warn
	case rule.Level == Allow && rule.Up != "" && (p.Step == "" || p.Step == Down || slices.Index(steps, p.Step) > slices.Index(steps, rule.Up)):
		r.Level, r.Excess = Fail, math.Inf(1)
		r.Text += fmt.Sprintf(", and up by %s is allowed", rule.Up)
	default:
		return
	}
	j.verdict.Reasons = append(j.verdict.Reasons, r)
}

// words says how a package differs.
func (p *Package) words() string {
	switch p.Change {
	case diff.Added:
		return p.Name + " " + p.Second
	case diff.Removed:
		return p.Name + " " + p.First
	}
	return fmt.Sprintf("%s %s -> %s", p.Name, p.First, p.Second)
}

func human(n int64) string { return units.HumanSize(float64(n)) }

func signed(n int64) string {
	if n < 0 {
		return "-" + human(-n)
	}
	return "+" + human(n)
}
