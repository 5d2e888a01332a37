package drift

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/kedge-build/kedge/internal/git"
	"github.com/kedge-build/kedge/internal/wholefile"
	"github.com/moby/patternmatcher"
	"github.com/pelletier/go-toml/v2"
)

// SettingsFile is the name of the file with the thresholds.
const SettingsFile = "kedge.toml"

// maxSettings bounds that file, in bytes.
const maxSettings = 1 << 20

// Any is a threshold that nothing is beyond.
const Any = -1

// Settings say how much drift is acceptable. Each threshold is the most that is: bytes, or a number of files or
// packages. DefaultSettings has those that hold if the file does not name them.
type Settings struct {
	Bytes int64 // by which the files of the image may grow or shrink
	// Percent is the same in per cent of the size that is recorded.
	Percent                                                    float64
	FilesAdded, FilesRemoved, FilesChanged                     int64
	PackagesAdded, PackagesRemoved                             int64
	PackagesMajor, PackagesMinor, PackagesPatch, PackagesLower int64

	Tmpfs []string // folders that a container mounts something over, so that their content counts apart
	Rules []Rule
}

// DefaultSettings returns the settings of a project that has none.
func DefaultSettings() Settings {
	return Settings{
		Bytes: Any, Percent: 10, FilesAdded: Any, FilesRemoved: Any, FilesChanged: Any,
		PackagesAdded: 20, PackagesRemoved: 10, PackagesMajor: 0, PackagesMinor: Any, PackagesPatch: Any, PackagesLower: 0,
	}
}

// Level is what a rule does with a difference.
type Level string

// The levels. Ignore and Allow keep it out of the thresholds; Allow has a limit of its own.
const (
	Ignore Level = "ignore"
	Allow  Level = "allow"
	Warn   Level = "warn"
	Fail   Level = "fail"
)

// A Rule says what becomes of the differences of some paths, packages or settings. The first that matches counts.
type Rule struct {
	Path    string // a pattern as in .dockerignore
	Package string // KIND/NAME or NAME, with * for any text
	Setting string // of the config, "base" or "source", with * for any text
	Level   Level
	Bytes   int64 // of an allowed path
	Files   int64 // of an allowed path
	Up      Step  // the largest step of an allowed package
	Reason  string
	Until   time.Time // the start of the day after the last one; zero: it does not end

	paths *patternmatcher.PatternMatcher
}

// String names the rule in messages.
func (r *Rule) String() string {
	switch {
	case r.Path != "":
		return "path " + r.Path
	case r.Package != "":
		return "package " + r.Package
	}
	return "setting " + r.Setting
}

func (r *Rule) ended(now time.Time) bool { return !r.Until.IsZero() && !now.Before(r.Until) }

// FindSettings returns the path of the file with the settings for a Dockerfile in dir: in dir, or else in the
// nearest folder above it, up to the top of the git checkout. It is empty if there is none.
func FindSettings(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for first := true; ; first = false {
		path := filepath.Join(dir, SettingsFile)
		if _, err := os.Lstat(path); err == nil {
			return path, nil
		}
		_, err := os.Lstat(filepath.Join(dir, ".git"))
		if above := filepath.Dir(dir); err != nil && above != dir && (!first || git.InCheckout(dir)) {
			dir = above
			continue
		}
		return "", nil
	}
}

// LoadSettings reads the settings at path; an empty path stands for the default ones. The error is a *FormatError
// if the file has something that docs/drift.md does not allow.
func LoadSettings(path string) (Settings, error) {
	if path == "" {
		return DefaultSettings(), nil
	}
	text, err := wholefile.Read(path, maxSettings)
	if err != nil {
		return Settings{}, fmt.Errorf("reading the settings: %w", err)
	}
	return ParseSettings(path, text)
}

// settingsDocument is kedge.toml. A threshold is a number, or "any".
type settingsDocument struct {
	Drift struct {
		Bytes           any            `toml:"bytes"`
		Percent         any            `toml:"percent"`
		FilesAdded      any            `toml:"files-added"`
		FilesRemoved    any            `toml:"files-removed"`
		FilesChanged    any            `toml:"files-changed"`
		PackagesAdded   any            `toml:"packages-added"`
		PackagesRemoved any            `toml:"packages-removed"`
		PackagesMajor   any            `toml:"packages-major"`
		PackagesMinor   any            `toml:"packages-minor"`
		PackagesPatch   any            `toml:"packages-patch"`
		PackagesDown    any            `toml:"packages-down"`
		Tmpfs           []string       `toml:"tmpfs"`
		Path            []ruleDocument `toml:"path"`
		Package         []ruleDocument `toml:"package"`
		Setting         []ruleDocument `toml:"setting"`
	} `toml:"drift"`
}

type ruleDocument struct {
	Match  string         `toml:"match"`
	Level  Level          `toml:"level"`
	Bytes  any            `toml:"bytes"`
	Files  any            `toml:"files"`
	Up     Step           `toml:"up"`
	Reason string         `toml:"reason"`
	Until  toml.LocalDate `toml:"until"`
}

// ParseSettings reads the text of a file with settings. name is the file's name in errors.
func ParseSettings(name string, text []byte) (Settings, error) {
	var doc settingsDocument
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&doc); err != nil {
		return Settings{}, tomlError(name, err)
	}
	var keys map[string]any
	if err := toml.Unmarshal(text, &keys); err != nil {
		return Settings{}, tomlError(name, err)
	}
	if key := otherCase(keys); key != "" { // the decoder takes any case
		return Settings{}, &FormatError{File: name, Line: lineOf(text, regexp.QuoteMeta(key), 0), Msg: fmt.Sprintf("unknown key %q", key)}
	}
	s := DefaultSettings()
	s.Tmpfs = doc.Drift.Tmpfs
	var errs []*FormatError
	before, _, _ := bytes.Cut(text, []byte("[["))
	fail := func(key, why string) {
		errs = append(errs, &FormatError{File: name, Line: lineOf(before, key+`\s*=`, 0), Msg: "drift." + key + " " + why})
	}
	const wantsNumber = `is not a number from 0, or "any"`
	d := &doc.Drift
	for key, t := range map[string]struct {
		value any
		limit *int64
	}{
		"files-added": {d.FilesAdded, &s.FilesAdded}, "files-removed": {d.FilesRemoved, &s.FilesRemoved}, "files-changed": {d.FilesChanged, &s.FilesChanged},
		"packages-added": {d.PackagesAdded, &s.PackagesAdded}, "packages-removed": {d.PackagesRemoved, &s.PackagesRemoved},
		"packages-major": {d.PackagesMajor, &s.PackagesMajor}, "packages-minor": {d.PackagesMinor, &s.PackagesMinor},
		"packages-patch": {d.PackagesPatch, &s.PackagesPatch}, "packages-down": {d.PackagesDown, &s.PackagesLower},
	} {
		if !count(t.value, t.limit) {
			fail(key, wantsNumber)
		}
	}
	if !size(d.Bytes, &s.Bytes) {
		fail("bytes", `is not a size such as "20MB", a number of bytes, or "any"`)
	}
	if !percent(d.Percent, &s.Percent) {
		fail("percent", wantsNumber)
	}
	for _, dir := range s.Tmpfs {
		if !strings.HasPrefix(dir, "/") {
			fail("tmpfs", fmt.Sprintf("has %q, which is not the absolute path of a folder", dir))
		}
	}
	for kind, list := range map[string][]ruleDocument{"path": d.Path, "package": d.Package, "setting": d.Setting} {
		for i := range list {
			rule, err := list[i].rule(kind)
			if err != nil {
				errs = append(errs, &FormatError{File: name, Line: lineOf(text, `\[\[\s*drift\s*\.\s*`+kind+`\s*\]\]`, i), Msg: fmt.Sprintf("[[drift.%s]]: %v", kind, err)})
			}
			s.Rules = append(s.Rules, rule)
		}
	}
	slices.SortFunc(errs, func(a, b *FormatError) int { return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Msg, b.Msg)) })
	var joined error
	for _, err := range errs {
		joined = errors.Join(joined, err)
	}
	return s, joined
}

// lineOf returns the number of the n-th line, from 0, that begins with a pattern; 0 if there is none.
func lineOf(text []byte, pattern string, n int) int {
	at := regexp.MustCompile(`(?m)^[ \t]*`+pattern).FindAllIndex(text, n+1)
	if len(at) <= n {
		return 0
	}
	return 1 + bytes.Count(text[:at[n][0]], []byte("\n"))
}

// otherCase returns a key with a capital letter, if there is one.
func otherCase(value any) string {
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			if strings.ToLower(key) != key {
				return key
			}
			if key := otherCase(below); key != "" {
				return key
			}
		}
	case []any:
		for _, below := range v {
			if key := otherCase(below); key != "" {
				return key
			}
		}
	}
	return ""
}

// count reads a threshold. It leaves a limit that is not given.
func count(value any, limit *int64) bool {
	switch v := value.(type) {
	case nil:
		return true
	case int64:
		*limit = v
		return v >= 0
	case string:
		*limit = Any
		return v == "any"
	}
	return false
}

// percent reads a threshold that may have a fraction.
func percent(value any, limit *float64) bool {
	if v, ok := value.(float64); ok {
		*limit = v
		return v >= 0
	}
	whole := int64(math.MinInt64)
	if !count(value, &whole) {
		return false
	}
	if whole != math.MinInt64 {
		*limit = float64(whole)
	}
	return true
}

// size reads a number of bytes.
func size(value any, limit *int64) bool {
	if text, ok := value.(string); ok && text != "any" {
		n, err := units.FromHumanSize(text)
		*limit = n
		return err == nil && n >= 0
	}
	return count(value, limit)
}

// rule returns the rule that the document describes.
func (d *ruleDocument) rule(kind string) (Rule, error) {
	r := Rule{Level: d.Level, Bytes: Any, Files: Any, Up: d.Up, Reason: d.Reason}
	switch {
	case d.Match == "":
		return r, errors.New("match says what it is about")
	case strings.TrimSpace(d.Reason) == "":
		return r, errors.New("it has no reason")
	case !slices.Contains([]Level{Ignore, Allow, Warn, Fail}, d.Level):
		return r, fmt.Errorf("level %q is not ignore, allow, warn or fail", d.Level)
	case d.Level != Allow && (d.Bytes != nil || d.Files != nil || d.Up != ""):
		return r, errors.New("only a rule of level allow has a limit")
	case kind != "path" && (d.Bytes != nil || d.Files != nil):
		return r, errors.New("bytes and files are limits of paths")
	case kind != "package" && d.Up != "":
		return r, errors.New("up is a limit of packages")
	case d.Up != "" && d.Up != Major && d.Up != Minor && d.Up != Patch:
		return r, fmt.Errorf("up %q is not major, minor or patch", d.Up)
	case kind == "setting" && d.Level == Ignore:
		return r, errors.New("a setting is never ignored: warn says so and goes on")
	case !size(d.Bytes, &r.Bytes):
		return r, errors.New(`bytes is not a size such as "20MB"`)
	case !count(d.Files, &r.Files):
		return r, errors.New("files is not a number from 0")
	}
	if d.Until != (toml.LocalDate{}) {
		r.Until = d.Until.AsTime(time.UTC).AddDate(0, 0, 1)
	}
	switch kind {
	case "path":
		var err error
		r.Path = d.Match
		if r.paths, err = patternmatcher.New([]string{strings.TrimPrefix(d.Match, "/")}); err != nil {
			return r, fmt.Errorf("match %q: %w", d.Match, err)
		}
	case "package":
		r.Package = d.Match
	default:
		r.Setting = d.Match
	}
	return r, nil
}

// matchesPath reports whether the rule is about a path or one of its folders.
func (r *Rule) matchesPath(path string) bool {
	if r.paths == nil {
		return false
	}
	ok, err := r.paths.MatchesOrParentMatches(strings.TrimPrefix(path, "/"))
	return ok && err == nil
}

func (r *Rule) matchesPackage(p *Package) bool {
	return r.Package != "" && (wildcard(r.Package, p.Name) || wildcard(r.Package, p.Kind+"/"+p.Name))
}

func (r *Rule) matchesSetting(key string) bool { return r.Setting != "" && wildcard(r.Setting, key) }

// wildcard reports whether s matches a pattern in which * stands for any text.
func wildcard(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == s
	}
	rest, ok := strings.CutPrefix(s, parts[0])
	if !ok {
		return false
	}
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, parts[len(parts)-1])
}

// find returns the first rule that matches and has not ended. A rule that would match and has ended is returned
// as ended.
func (s *Settings) find(now time.Time, matches func(*Rule) bool) (found, ended *Rule) {
	for i := range s.Rules {
		r := &s.Rules[i]
		if !matches(r) {
			continue
		}
		if !r.ended(now) {
			return r, ended
		}
		if ended == nil {
			ended = r
		}
	}
	return nil, ended
}
