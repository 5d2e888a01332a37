package builder

import (
	"regexp"
	"strings"

	"github.com/moby/buildkit/client"
)

// userinfo is the part of a URL that may be a password or a token, also of a URL that is not well formed.
var userinfo = regexp.MustCompile(`(?i)\b(https?|git|ssh)://[^/\s"']*@`)

// redact returns text without the credentials of the URLs in it. The user of ssh is none.
func redact(text string) string {
	return userinfo.ReplaceAllStringFunc(text, func(found string) string {
		scheme, user, _ := strings.Cut(found, "://")
		if strings.EqualFold(scheme, "ssh") && !strings.Contains(user, ":") {
			return found
		}
		return scheme + "://xxxxx@"
	})
}

// redactedError is an error without the credentials of the URLs in its text.
type redactedError struct{ err error }

func (e *redactedError) Error() string { return redact(e.err.Error()) }

func (e *redactedError) Unwrap() error { return e.err }

// redacted returns err without credentials in its text.
func redacted(err error) error {
	if err == nil || redact(err.Error()) == err.Error() {
		return err
	}
	return &redactedError{err}
}

// redactedStatus returns a copy of st for a display. What steps write is theirs, and stays.
func redactedStatus(st *client.SolveStatus) *client.SolveStatus {
	shown := *st
	shown.Vertexes = make([]*client.Vertex, len(st.Vertexes))
	for i, v := range st.Vertexes {
		vertex := *v
		vertex.Name, vertex.Error = redact(v.Name), redact(v.Error)
		shown.Vertexes[i] = &vertex
	}
	shown.Statuses = make([]*client.VertexStatus, len(st.Statuses))
	for i, v := range st.Statuses {
		status := *v
		status.ID, status.Name = redact(v.ID), redact(v.Name)
		shown.Statuses[i] = &status
	}
	return &shown
}
