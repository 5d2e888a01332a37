package main

import (
	"bytes"
	"context"
	"io"

	"github.com/kedge-build/kedge"
	"github.com/kedge-build/kedge/lock"
	"github.com/kedge-build/kedge/policy"
	"github.com/kedge-build/kedge/publish"
	"github.com/urfave/cli/v2"
)

// The forms of --export.
const (
	sourcePolicyForm = "source-policy"
	regoForm         = "rego"
)

// checkExport checks --export and --output.
func checkExport(c *cli.Context) error {
	form, path := c.String("export"), c.String("output")
	switch {
	case form != "" && form != sourcePolicyForm && form != regoForm:
		return usagef("export %q is not %s or %s", form, sourcePolicyForm, regoForm)
	case form == "" && path != "":
		return usagef("--output is where --export writes: --export=%s or --export=%s", sourcePolicyForm, regoForm)
	}
	return nil
}

// A lockExport is a lock in the form of another builder. The zero value is none.
type lockExport struct {
	form, path string
	data       []byte
}

func newExport(c *cli.Context, locked *kedge.Locked) (e lockExport, err error) {
	e.form, e.path = c.String("export"), c.String("output")
	switch e.form {
	case sourcePolicyForm:
		e.data, err = policy.Source(locked.Lock)
	case regoForm:
		e.data = policy.Rego(locked.Lock)
		if e.path == "" && locked.Dockerfile != "" {
			e.path = policy.RegoPath(locked.Dockerfile)
		}
	default:
		return e, nil
	}
	if e.path == "" {
		e.path = "-"
	}
	return e, err
}

// stale reports whether the file is not what would be written.
func (e lockExport) stale() bool {
	if e.form == "" || e.path == "-" {
		return false
	}
	return !bytes.Equal(policy.Read(e.path), e.data)
}

func (p *process) writeExport(ctx context.Context, e lockExport, from *lock.File) error {
	if e.form == "" {
		return nil
	}
	for _, s := range from.Sources() {
		if s.Kind == lock.Local {
			p.say("warning: %q is an image of this machine, which no other builder can fetch by its digest: %s does not allow it", s.Ref, e.form)
		}
	}
	var err error
	switch {
	case e.path == "-":
		_, err = p.stdout.Write(e.data)
		return err
	case e.form == regoForm:
		err = policy.WriteRego(e.path, e.data)
	default:
		err = publish.WriteFile(ctx, e.path, func(w io.Writer) error { _, err := w.Write(e.data); return err })
	}
	if err == nil {
		p.say("wrote %s", e.path)
	}
	return err
}
