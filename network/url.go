package network

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// secretParams are query parameters that hold a credential, or the times and names that belong to a signed
// URL, in lower case.
var secretParams = params(`access_token api-key api_key api_token apikey auth auth_token authorization authtoken
	bearer_token client_secret deploy_token id_token job_token jwt oauth_token passwd password private-token
	private_token refresh_token secret session_token sig signature token
	awsaccesskeyid googleaccessid key-pair-id`)

// signedParams are those that are dropped only beside one of the secretParams, because they are part of a
// signed URL there: of S3 and CloudFront, and of Azure's shared access signatures.
var signedParams = params(`expires policy se ske skoid sks skt sktid skv sp spr sr st sv`)

func params(list string) map[string]bool {
	set := map[string]bool{}
	for name := range strings.FieldsSeq(list) {
		set[name] = true
	}
	return set
}

func isSecretParam(name string) bool {
	name = strings.ToLower(name)
	return secretParams[name] || strings.HasPrefix(name, "x-amz-") || strings.HasPrefix(name, "x-goog-")
}

// canonicalURL returns the form of an http or https URL that a record has: scheme and host in lower case, and
// no default port, user, fragment, or query parameter that holds a credential. Everything else stays byte for
// byte.
func canonicalURL(u *url.URL) (string, error) {
	scheme := strings.ToLower(u.Scheme)
	if scheme != "http" && scheme != "https" {
		return "", fmt.Errorf("%q is not an http or https URL", u.Redacted())
	}
	host := canonicalHost(scheme, u.Host)
	if !isHost(host) {
		return "", fmt.Errorf("%q is not the host of a URL", u.Host)
	}
	path := u.EscapedPath()
	if u.Opaque != "" || path == "" {
		path = "/"
	}
	text := scheme + "://" + host + path
	if query := cleanQuery(u.RawQuery); query != "" {
		text += "?" + query
	}
	if text = escapeRest(text); len(text) > maxURL {
		return "", fmt.Errorf("a URL of %s is longer than %d bytes", host, maxURL)
	}
	return text, nil
}

// maxURL bounds the length of a URL in bytes.
const maxURL = 16 << 10

var defaultPort = map[string]string{"http": ":80", "https": ":443"}

func canonicalHost(scheme, host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), defaultPort[scheme])
	return strings.TrimSuffix(host, ":")
}

// hostname returns a host without its port and without brackets.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.Trim(host, "[]")
}

// cleanQuery drops the parameters that hold credentials. The others keep their order and their form.
func cleanQuery(query string) string {
	parts := strings.Split(query, "&")
	name := func(part string) string {
		key, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(key); err == nil {
			return plain
		}
		return key
	}
	signed := false
	for _, part := range parts {
		signed = signed || isSecretParam(name(part))
	}
	if !signed {
		return query
	}
	kept := parts[:0]
	for _, part := range parts {
		if n := name(part); !isSecretParam(n) && !signedParams[strings.ToLower(n)] {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// escapeRest escapes the bytes of a URL that a line of the record cannot hold.
func escapeRest(s string) string {
	if isToken(s) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// cleanLink returns a URL in a header, which may be relative, without user and credentials. Text that is no
// URL is dropped.
func cleanLink(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return ""
	}
	query := cleanQuery(u.RawQuery)
	if u.User == nil && query == u.RawQuery {
		return s // byte for byte
	}
	u.User, u.RawQuery = nil, query
	return u.String()
}

var linkTarget = regexp.MustCompile(`<[^<>]*>`)

// cleanLinks is cleanLink for the URLs of a header Link, which are in angle brackets.
func cleanLinks(s string) string {
	return linkTarget.ReplaceAllStringFunc(s, func(target string) string {
		return "<" + cleanLink(target[1:len(target)-1]) + ">"
	})
}
