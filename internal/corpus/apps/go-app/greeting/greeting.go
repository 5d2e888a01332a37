// Package greeting greets.
package greeting

// Text is a greeting.
func Text(name string) string { return "hello " + name }
