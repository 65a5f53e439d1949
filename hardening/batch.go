package hardening

import (
	"bytes"
	"context"
	"fmt"
	"unicode/utf8"
)

// Plain lines are the form for big batches: no quotes, no escapes, one line in and one line out. The answer has a line for
// each, in order; "! reason" stands for one that failed, with a reason of the problem documents.

// countLines checks a body of lines, of which the last may lack its end, and returns it without that end.
func countLines(body []byte) ([]byte, int, error) {
	if !utf8.Valid(body) {
		return nil, 0, fmt.Errorf("reading request: %w: not UTF-8", ErrInput)
	}
	if bytes.HasPrefix(body, []byte("\ufeff")) {
		// It would be a part of the first uid, and nobody would find out before that person signs in.
		return nil, 0, fmt.Errorf("reading request: %w: it begins with a byte order mark", ErrInput)
	}
	body = bytes.TrimSuffix(body, []byte("\n"))
	n := bytes.Count(body, []byte("\n")) + 1
	switch {
	case len(body) == 0:
		return nil, 0, fmt.Errorf("reading request: %w: no line", ErrInput)
	case n > maxBatch:
		return nil, 0, fmt.Errorf("reading request: %w: more than %d lines", errTooLarge, maxBatch)
	}
	return body, n, nil
}

// splitLines returns the lines of a body.
func splitLines(body []byte) ([][]byte, error) {
	body, n, err := countLines(body)
	if err != nil {
		return nil, err
	}
	lines := make([][]byte, 0, n)
	for more := true; more; {
		var line []byte
		line, body, more = bytes.Cut(body, []byte("\n"))
		lines = append(lines, line)
	}
	return lines, nil
}

// protectLines appends one record for each line of uid TAB context TAB base64url(secret), without the slow step. A line that
// cannot be read gets its own answer. Secrets are decoded in place. Nothing is allocated for a line.
func (s *Service) protectLines(ctx context.Context, dst []byte, body []byte, n int, sp *spent) ([]byte, error) {
	p, err := s.protector(ctx, n, sp)
	if err != nil {
		return nil, err
	}
	defer p.end()
	var item raw
	for end := 0; end >= 0; {
		line := body
		if end = bytes.IndexByte(body, '\n'); end >= 0 {
			line, body = body[:end], body[end+1:]
		}
		parseLine(&item, line)
		if dst, err = p.append(ctx, dst, &item); err != nil {
			return nil, err
		}
		dst = append(dst, '\n')
	}
	return dst, nil
}

var badLine = refusalFor(ErrInput).kind

// parseLine reads one line into an item.
func parseLine(item *raw, line []byte) {
	*item = raw{bad: badLine}
	uid := bytes.IndexByte(line, '\t')
	if uid < 0 {
		return
	}
	rest := line[uid+1:]
	context := bytes.IndexByte(rest, '\t')
	if context < 0 {
		return
	}
	secret := rest[context+1:]
	n, err := noPadding.Decode(secret, secret)
	// The decoder skips line ends, which a line has none of but "\r".
	if err != nil || noPadding.EncodedLen(n) != len(secret) {
		return
	}
	item.uid, item.context, item.secret, item.fast = line[:uid], rest[:context], secret[:n], true
	if item.check() == nil {
		item.bad = ""
	}
}
