// Package parity holds kedge build against docker buildx build: both are given
// the same command lines, on the same BuildKit, and what comes out is compared.
// It has tests only, and the data from which docs/drop-in.md is written.
package parity
