package kedge

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/kedge-build/kedge/builder"
	"github.com/kedge-build/kedge/secret"
)

// A SecretError says that values of secrets are in the image, which is not delivered then. It does not
// have the values.
type SecretError struct {
	Dockerfile string
	Leaks      []SecretLeak
}

// A SecretLeak is a place in an image where the value of a secret is.
type SecretLeak struct {
	Secret string // its id
	Line   int    // of the instruction; 0 where no line says it
	Where  string // a path in the image, or a document of it and a key in that
	Form   string // empty where it is the value itself
}

// maxLeaks is how many places an error names.
const maxLeaks = 5

func (e *SecretError) Error() string {
	var lines []string
	for i, l := range e.Leaks {
		if i == maxLeaks {
			lines = append(lines, fmt.Sprintf("%s: and in %d more places", e.Dockerfile, len(e.Leaks)-i))
			break
		}
		at := e.Dockerfile
		if l.Line > 0 {
			at = fmt.Sprintf("%s:%d", at, l.Line)
		}
		where := l.Where
		if quoted := strconv.Quote(where); quoted != `"`+where+`"` { // it is whatever a step calls a file
			where = quoted
		}
		line := fmt.Sprintf("%s: the value of secret %q is in the image: %s", at, l.Secret, where)
		if l.Form != "" {
			line += fmt.Sprintf(" (as %s)", l.Form)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// sought returns the secrets to look for in the image, and the ids of those that are too short for that.
func (p *project) sought(ctx context.Context) (values map[string][]byte, short []string, err error) {
	if p.NoSecretCheck {
		return nil, nil, nil
	}
	values = map[string][]byte{}
	for _, id := range slices.Sorted(maps.Keys(p.Secrets)) {
		if values[id], err = p.Secrets.GetSecret(ctx, id); err != nil {
			return nil, nil, fmt.Errorf("reading secret %q, to look for it in the image: %w", id, err)
		}
		if secret.Short(values[id]) {
			short = append(short, id)
		}
	}
	return values, short, nil
}

// leaked says of err, where it is about secrets in an image, which instructions brought them there.
func (p *project) leaked(err error, r *builder.Result) error {
	var found *secret.LeakError
	if !errors.As(err, &found) {
		return err
	}
	e := &SecretError{Dockerfile: p.Dockerfile}
	for _, l := range found.Leaks {
		leak := SecretLeak{Secret: l.Secret, Where: l.Path, Form: l.Form}
		if l.Form == "plain" {
			leak.Form = ""
		}
		if l.Document != "" {
			leak.Where = l.Document + ", " + l.Path
		}
		for _, part := range r.Platforms {
			step := l.Layer - part.BaseLayers
			if platforms.Format(part.Platform) == platforms.Format(l.Platform) && step >= 0 && step < len(part.Steps) {
				leak.Line = part.Steps[step].Line
			}
		}
		// Platforms mostly share their instructions.
		if !slices.Contains(e.Leaks, leak) {
			e.Leaks = append(e.Leaks, leak)
		}
	}
	return e
}
