package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/drift"
	"github.com/kedge-build/kedge/lint"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/publish"
	"github.com/kedge-build/kedge/report"
	"github.com/kedge-build/kedge/store"
	"github.com/opencontainers/go-digest"
	"github.com/urfave/cli/v2"
)

func (p *process) promoteVerb() *cli.Command {
	return &cli.Command{
		Name: "promote", Usage: "copy an image to another repository, if every condition holds", ArgsUsage: "SRC DST",
		Description: "The conditions: built by this kedge from a full lock, of the target that ships, with the label of\nits build args, verified, within the thresholds of drift, and no error of lint.",
		Flags: []cli.Flag{
			driftFileFlag(), formatFlag(), reportFlag(),
			&cli.StringFlag{Name: "context", Usage: "the build context for lint: a `FOLDER` (default: that of the Dockerfile)"},
			&cli.BoolFlag{Name: "dry-run", Usage: "print the answers, and copy nothing"},
		},
		Action: p.promote,
	}
}

func (p *process) promote(c *cli.Context) error {
	if _, err := answerFormat(c); err != nil {
		return err
	}
	if c.NArg() != 2 {
		return usagef("promote takes two names, SRC and DST, and got %d", c.NArg())
	}
	promotion, err := publish.NewPromotion(c.Context, c.Args().Get(0), c.Args().Get(1), authn.DefaultKeychain, nil)
	if err != nil {
		return err
	}
	conditions, err := p.conditions(c, promotion)
	if err != nil {
		return err
	}
	r := report.NewPromotion(promotion.From(), promotion.To(), promotion.Digest().String(), c.Bool("dry-run"), conditions)
	if r.Yes() && !c.Bool("dry-run") {
		if err := promotion.Copy(); err != nil {
			return err
		}
	}
	return p.report(c, r)
}

// conditions returns the answer to each condition of a promotion.
func (p *process) conditions(c *cli.Context, promotion *publish.Promotion) ([]report.Condition, error) {
	labels, err := promotion.Labels()
	if err != nil {
		return nil, err
	}
	build, err := p.buildOf(c.Context, promotion)
	if err != nil {
		return nil, err
	}
	locks, declared, err := lockConditions(build)
	if err != nil {
		return nil, err
	}
	drifted, err := p.driftCondition(c, promotion)
	if err != nil {
		return nil, err
	}
	linted, err := p.lintCondition(c, build)
	if err != nil {
		return nil, err
	}
	target, args := labelConditions(build, labels)
	if declared.Text != "" {
		target = declared
	}
	return []report.Condition{locks, verifiedCondition(build), target, args, drifted, linted}, nil
}

// buildOf returns the record of the build of an image, nil if this kedge has not built it.
func (p *process) buildOf(ctx context.Context, promotion *publish.Promotion) (*store.Build, error) {
	st, err := p.openStore(ctx)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	b, err := st.Build(digest.Digest(promotion.Digest().String()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return &b, err
}

const notBuilt = "this kedge has not built the image, or has forgotten it"

// lockConditions say whether a full lock had all that the image was built from, and still has it; target is the answer
// to that condition if the lock has declared another target since.
func lockConditions(b *store.Build) (locked, target report.Condition, err error) {
	locked.Name, target.Name = "locked", "target"
	switch {
	case b == nil:
		locked.Text = notBuilt
		return locked, target, nil
	case b.Lockfile == "":
		locked.Text = "it was built without a lockfile, or the lock could not be written"
		return locked, target, nil
	case len(b.Unlocked) > 0:
		locked.Text = fmt.Sprintf("built from %s, which does not hold what RUN downloads: %s (kedge lock --downloads)", b.Lockfile, b.Unlocked[0])
		if n := len(b.Unlocked) - 1; n > 0 {
			locked.Text += fmt.Sprintf(" and %d more", n)
		}
		return locked, target, nil
	}
	f, exists, err := lock.Read(b.Lockfile)
	if err != nil {
		return locked, target, err
	}
	if !exists {
		locked.Text = fmt.Sprintf("built from %s, which is gone", b.Lockfile)
		return locked, target, nil
	}
	if f.Target != b.Declared {
		target.Text = fmt.Sprintf("%q was declared when it was built, and now the lock declares %q", b.Declared, f.Target)
	}
	pins := map[string]string{store.DownloadsPin: f.Downloads.String()}
	for _, s := range f.Sources() {
		pins[string(s.Kind)+" "+s.Ref], _ = f.Pin(s)
	}
	for _, source := range slices.Sorted(maps.Keys(b.Pins)) {
		if pins[source] != b.Pins[source] {
			locked.Text = fmt.Sprintf("built from %s, which has another pin for %s by now: build again", b.Lockfile, source)
			return locked, target, nil
		}
	}
	locked.Yes, locked.Text = true, "built from "+b.Lockfile
	return locked, target, nil
}

// verifiedCondition says whether the last verification of the image said yes.
func verifiedCondition(b *store.Build) report.Condition {
	answer := report.Condition{Name: "verified"}
	switch {
	case b == nil:
		answer.Text = notBuilt
	case b.Verified == nil:
		answer.Text = "it was built, and not verified"
	case !b.Verified.Reproducible:
		answer.Text = "two builds differed"
	default:
		answer.Yes, answer.Text = true, "two builds, the same bit for bit"
		if n := b.Verified.NotCovered; n > 0 {
			answer.Text += fmt.Sprintf("; %s not covered", report.Counted(n, "thing"))
		}
	}
	return answer
}

// labelConditions are those that the labels of the image answer.
func labelConditions(b *store.Build, labels []map[string]string) (target, args report.Condition) {
	target, args = report.Condition{Name: "target", Yes: true, Text: "no label says that it is not the one that ships"}, report.Condition{Name: "args", Yes: len(labels) > 0}
	if b != nil {
		target.Text = fmt.Sprintf("%q ships", b.Declared)
		if b.Target != b.Declared {
			target.Yes, target.Text = false, fmt.Sprintf("it is of target %q, and %q ships", b.Target, b.Declared)
		}
	}
	for _, l := range labels {
		if other := l[store.TargetLabel]; other != "" {
			target.Yes, target.Text = false, fmt.Sprintf("label %s: target %q, which the lock does not declare", store.TargetLabel, other)
		}
		hash := l[kedge.ArgsLabel]
		switch {
		case hash == "":
			args.Yes, args.Text = false, "it has no label "+kedge.ArgsLabel
		case b != nil && hash != b.Args:
			args.Yes, args.Text = false, fmt.Sprintf("label %s is %s, and it was built with %s", kedge.ArgsLabel, hash, b.Args)
		case args.Yes:
			args.Text = hash
		}
	}
	return target, args
}

// driftCondition holds the image to the record and the thresholds in git: those that no one has reviewed could say yes
// to anything. Without a record the answer is no.
func (p *process) driftCondition(c *cli.Context, promotion *publish.Promotion) (report.Condition, error) {
	answer := report.Condition{Name: "drift"}
	record := []string{drift.Path(c.String("file"))}
	settings, err := drift.FindSettings(filepath.Dir(c.String("file")))
	if err != nil {
		return answer, err
	}
	if settings != "" {
		record = append(record, settings)
	}
	if changed, err := drift.Uncommitted(c.Context, p.environ, record...); err != nil {
		return answer, err
	} else if len(changed) > 0 {
		answer.Text = fmt.Sprintf("%s is not as the last commit has it", strings.Join(changed, " and "))
		return answer, nil
	}
	reports, err := p.judgeImage(c, "docker://"+promotion.From())
	if none := (*noRecordError)(nil); errors.As(err, &none) {
		answer.Text = none.Error()
		return answer, nil
	}
	if err != nil {
		return answer, err
	}
	for _, r := range reports {
		if answer.Yes, answer.Text = r.Yes(), r.Headline(); answer.Yes {
			continue
		}
		for _, reason := range r.Drift.Reasons[:min(3, len(r.Drift.Reasons))] {
			answer.Text += "; " + reason.Text
		}
		break
	}
	return answer, nil
}

// lintCondition asks lint about the Dockerfile, its context and its lock.
func (p *process) lintCondition(c *cli.Context, b *store.Build) (report.Condition, error) {
	file := c.String("file")
	if b != nil {
		if same, err := b.MadeFrom(file); err != nil {
			return report.Condition{}, err
		} else if !same {
			return report.Condition{Name: "lint", Text: fmt.Sprintf("%s has changed since the image was built", file)}, nil
		}
		if len(b.Foreign) > 0 {
			return report.Condition{Name: "lint", Text: b.Foreign[0]}, nil
		}
	}
	linted, err := kedge.Lint(c.Context, kedge.Env{Now: time.Now, Environ: p.environ, Stdin: p.stdin}, kedge.Options{
		Context: cmp.Or(c.String("context"), filepath.Dir(file)), Dockerfile: file,
	})
	if err != nil {
		return report.Condition{}, err
	}
	answer := report.Condition{Name: "lint", Yes: !lint.Failed(linted.Findings), Text: "no error"}
	for _, f := range linted.Findings {
		if f.Level == lint.Error {
			answer.Text = fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
			break
		}
	}
	return answer, nil
}
