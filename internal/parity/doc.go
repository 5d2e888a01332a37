// Package parity compares kedge build with docker buildx build. Both run the same
// command lines on the same BuildKit, and the results must be equal, except for
// the listed differences. The package has only tests, and the data from which
// docs/drop-in.md is generated.
package parity
