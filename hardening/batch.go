package hardening

import (
	"bytes"
	"fmt"
	"unicode/utf8"
)

// Plain lines are the form for big batches: no quotes, no escapes, one line in and one line out. The answer has a line for
// each, in order; "! reason" stands for one that failed, with a reason of the problem documents.

// splitLines returns the lines of a body, of which the last may lack its end. Neither "\r" nor an empty line has a meaning of
// its own.
func splitLines(body []byte) ([][]byte, error) {
	if !utf8.Valid(body) {
		return nil, fmt.Errorf("reading request: %w: not UTF-8", ErrInput)
	}
	body = bytes.TrimSuffix(body, []byte("\n"))
	n := bytes.Count(body, []byte("\n")) + 1
	switch {
	case len(body) == 0:
		return nil, fmt.Errorf("reading request: %w: no line", ErrInput)
	case n > maxBatch:
		return nil, fmt.Errorf("reading request: %w: more than %d lines", errTooLarge, maxBatch)
	}
	lines := make([][]byte, 0, n)
	for more := true; more; {
		var line []byte
		line, body, more = bytes.Cut(body, []byte("\n"))
		lines = append(lines, line)
	}
	return lines, nil
}

// parseLines reads lines of uid TAB context TAB base64url(secret), for records without the slow step. A line that cannot be
// read gets its own answer. Secrets are decoded in place; the result lives in body.
func parseLines(body []byte) ([]raw, error) {
	lines, err := splitLines(body)
	if err != nil {
		return nil, err
	}
	items := make([]raw, len(lines))
	for i, line := range lines {
		items[i] = parseLine(line)
	}
	return items, nil
}

var badLine = refusalFor(ErrInput).kind

func parseLine(line []byte) raw {
	uid, rest, ok1 := bytes.Cut(line, []byte("\t"))
	context, secret, ok2 := bytes.Cut(rest, []byte("\t"))
	n, err := noPadding.Decode(secret, secret)
	// The decoder skips line ends, which a line has none of but "\r".
	if !ok1 || !ok2 || err != nil || noPadding.EncodedLen(n) != len(secret) {
		return raw{bad: badLine}
	}
	item := raw{uid: uid, context: context, secret: secret[:n], fast: true}
	if item.check() != nil {
		return raw{bad: badLine}
	}
	return item
}
