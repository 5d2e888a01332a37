package builder

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/kedge-build/kedge/frontend"
	"github.com/kedge-build/kedge/network/relay"
	"github.com/moby/buildkit/client"
)

// userinfo matches the part of a URL that may hold a password or a token, even in a malformed URL.
var userinfo = regexp.MustCompile(`(?i)\b(https?|git|ssh)://[^/\s"']*@`)

// redact returns text without the credentials of its URLs, and the command of a RUN as the Dockerfile has it. The
// user of an ssh URL is not a credential.
func redact(text string) string {
	text = strings.ReplaceAll(text, relay.Program+" ", "")
	return userinfo.ReplaceAllStringFunc(text, func(found string) string {
		scheme, user, _ := strings.Cut(found, "://")
		if strings.EqualFold(scheme, "ssh") && !strings.Contains(user, ":") {
			return found
		}
		return scheme + "://xxxxx@"
	})
}

// credentialsIn returns the parts of the URLs of sources that are credentials, as user:password@.
func credentialsIn(uses []frontend.Use) []string {
	var found []string
	for _, use := range uses {
		for _, text := range append(slices.Sorted(maps.Values(use.Op.Attrs)), use.Op.Identifier) {
			for _, match := range userinfo.FindAllString(text, -1) {
				if redact(match) != match {
					_, user, _ := strings.Cut(match, "://")
					found = append(found, user)
				}
			}
		}
	}
	return found
}

// forgetCredentials returns a line of history without the credentials of the URLs that it fetches from, and
// without the given ones, which an ARG may also hold, alone or in a URL. What else a RUN has on its command line stays.
func forgetCredentials(by string, credentials []string) string {
	if strings.HasPrefix(by, "ADD ") {
		by = redact(by)
	}
	words := strings.Split(by, " ")
	args := strings.HasPrefix(by, "ARG ") || strings.HasPrefix(by, "RUN |") // their values are in the line
	for _, user := range credentials {
		_, password, _ := strings.Cut(strings.TrimSuffix(user, "@"), ":")
		for i, word := range words {
			name, value, ok := strings.Cut(word, "=")
			if value = strings.TrimSuffix(value, "@"); ok && args && value != "" && (value+"@" == user || value == password) {
				words[i] = name + "=xxxxx"
			}
			words[i] = strings.ReplaceAll(words[i], "://"+user, "://xxxxx@")
		}
	}
	return strings.Join(words, " ")
}

// redactedError is an error whose text has no credentials.
type redactedError struct{ err error }

func (e *redactedError) Error() string { return redact(e.err.Error()) }

func (e *redactedError) Unwrap() error { return e.err }

// redacted returns err with the credentials removed from its text.
func redacted(err error) error {
	if err == nil || redact(err.Error()) == err.Error() {
		return err
	}
	return &redactedError{err}
}

// redactedStatus returns a copy of st for display. It leaves the output of steps alone.
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
