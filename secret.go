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

// A SecretError says that the image holds the values of secrets. It does not hold them itself.
type SecretError struct {
	Dockerfile string
	Leaks      []SecretLeak
}

// A SecretLeak is one place in an image that holds the value of a secret.
type SecretLeak struct {
	Secret string // its id
	Line   int    // of the instruction; 0 if unknown
	Where  string // a path in the image, or one of its documents and a key in it
	Form   string // its encoding; empty for the plain value
}

// maxLeaks is the number of places that an error names.
const maxLeaks = 5

func (e *SecretError) Error() string {
	var lines []string
	for i, l := range e.Leaks {
		if i == maxLeaks {
			lines = append(lines, fmt.Sprintf("%s: and in %d more places", e.Dockerfile, len(e.Leaks)-i))
			break
		}
		position := e.Dockerfile
		if l.Line > 0 {
			position = fmt.Sprintf("%s:%d", position, l.Line)
		}
		where := l.Where
		if quoted := strconv.Quote(where); quoted != `"`+where+`"` { // a step may name its files anything
			where = quoted
		}
		line := fmt.Sprintf("%s: the value of secret %q is in the image: %s", position, l.Secret, where)
		if l.Form != "" {
			line += fmt.Sprintf(" (as %s)", l.Form)
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// secretValues returns the secrets to look for in the image, by id, and the ids of those too short for that.
func (p *project) secretValues(ctx context.Context) (values map[string][]byte, tooShort []string, err error) {
	if p.options.NoSecretCheck {
		return nil, nil, nil
	}
	values = map[string][]byte{}
	for _, id := range slices.Sorted(maps.Keys(p.options.Secrets)) {
		if values[id], err = p.options.Secrets.GetSecret(ctx, id); err != nil {
			return nil, nil, fmt.Errorf("reading secret %q, to look for it in the image: %w", id, err)
		}
		if secret.Short(values[id]) {
			tooShort = append(tooShort, id)
		}
	}
	return values, tooShort, nil
}

// locateSecrets adds to an error about secrets in an image which instructions put them there. It returns
// other errors as they are.
func (p *project) locateSecrets(err error, r *builder.Result) error {
	var found *secret.LeakError
	if !errors.As(err, &found) {
		return err
	}
	e := &SecretError{Dockerfile: p.name}
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
		// Platforms usually share their instructions.
		if !slices.Contains(e.Leaks, leak) {
			e.Leaks = append(e.Leaks, leak)
		}
	}
	return e
}
