package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
)

// A row is a figure that was measured several times.
type row struct {
	what     string
	unit     string    // "s", "MiB" or "", a number
	kedge    []float64 // empty if a program is missing, which note says
	buildkit []float64 // empty without a comparison
	goal     float64   // upper bound of the ratio, or of the figure without a comparison
	worst    bool      // the maximum counts instead of the median
	note     string
}

// figure returns the value to compare with the goal.
func (r row) figure() float64 {
	switch {
	case len(r.buildkit) > 0:
		return median(r.kedge) / median(r.buildkit)
	case r.worst:
		return slices.Max(r.kedge)
	}
	return median(r.kedge)
}

// printTable prints the rows as a Markdown table with aligned columns.
func printTable(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| what\t| kedge: min / median / max\t| yardstick: min / median / max\t| figure\t| goal\t| \t|")
	fmt.Fprintln(t, "| ---\t| ---\t| ---\t| ---\t| ---\t| ---\t|")
	for _, r := range rows {
		if len(r.kedge) == 0 {
			continue
		}
		verdict := "ok"
		if r.figure() > r.goal {
			verdict = "MISSED"
		}
		figure, goal := number(r.figure(), r.unit), strconv.FormatFloat(r.goal, 'g', -1, 64)
		if len(r.buildkit) > 0 {
			figure = fmt.Sprintf("%.3f", r.figure())
		} else if r.unit != "" {
			goal += " " + r.unit
		}
		fmt.Fprintf(t, "| %s\t| %s\t| %s\t| %s\t| ≤ %s\t| %s\t|\n", r.what, spread(r.kedge, r.unit), spread(r.buildkit, r.unit), figure, goal, verdict)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.note != "" {
			fmt.Fprintf(w, "%s: %s\n", r.what, r.note)
		}
	}
	return nil
}

func spread(values []float64, unit string) string {
	if len(values) == 0 {
		return ""
	}
	return number(slices.Min(values), "") + " / " + number(median(values), "") + " / " + number(slices.Max(values), unit)
}

// number formats v with three significant digits.
func number(v float64, unit string) string {
	s := strconv.FormatFloat(v, 'g', 3, 64)
	if v >= 100 {
		s = strconv.FormatFloat(v, 'f', 0, 64)
	}
	if unit != "" {
		s += " " + unit
	}
	return s
}

// median returns the middle value, or the mean of the two in the middle.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}
