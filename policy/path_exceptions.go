package policy

import "strings"

// Exceptions are the characters that the paths of one site may have although programs read them in different ways. Each is for
// an app that really has such paths. A path that takes an exception is judged in every way in which it can be read, and the strictest
// answer counts: a deny line that matches one reading denies, and the allow lines must open all of them. So `allow any /files/*` does
// not open /files/a%2Fb, which can also be read as /files/a/b, and `allow any /files/**` does. The app receives what was sent, byte
// for byte.
//
// No exception lets through dot segments, empty segments, backslashes, control characters or overlong forms in any reading, nor
// "..%2f", "..;/", "/;/..", "%252e", "%252f", "%253b", "%2525" or "%3b".
type Exceptions struct {
	// EncodedSlash, `paths allow encoded_slash`: "%2F" within a segment, for apps whose names hold a slash (GitLab's projects, object
	// stores, DOIs). /a%2Fb is judged as it is, one segment, and as /a/b. An app that decodes first and routes then (WSGI, CGI, PHP)
	// goes to the handler of /a/b for it. A name with a slash in it equals no {user} and no {claim.NAME}.
	EncodedSlash bool
	// Semicolon, `paths allow semicolon`: ";", for apps with matrix parameters or a session in the path (JAX-RS, ";jsessionid="). /a;x=1/b
	// is judged as it is, as /a/b (servlet containers drop parameters before they route) and as /a (filters that drop the rest of the
	// path). What stands after the ";" is seen by no rule: the app may decide by it. An encoded "/" in a parameter stays refused.
	Semicolon bool
	// EncodedPercent, `paths allow encoded_percent`: "%25", for names with a percent sign. Where two hexadecimal digits follow, the path
	// is judged once more with that escape decoded: /a%2541 also as /aA. Whatever would decode to other than a letter, a digit, a
	// blank between others, or a character that needs no escape is refused.
	EncodedPercent bool
	// TrailingDot, `paths allow trailing_dot`: segments that end in ".", for names like "Smith Jr." or "v1.". They are judged also
	// without these dots, as Windows and some frameworks read them. "%2E" at the end and segments of nothing but dots stay refused.
	TrailingDot bool
}

// maxReadings bounds what one path can cost: the path as it is written and 15 other ways.
const maxReadings = 16

// keptSlash stands in Path.decoded for an encoded slash that was accepted. UTF-8 has no such byte, so that no name equals it.
const keptSlash = 0xff

// parseReadings is ParsePath with exceptions. A path that takes one carries all the other ways in which it can be read, and each of
// these has to be acceptable itself. Paths that take none cost and mean what they do without. A path with more than 16 readings is
// refused.
func parseReadings(escaped string, e Exceptions) (Path, error) {
	p, took, err := parsePath(escaped, e)
	if err != nil || took == (Exceptions{}) {
		return p, err
	}
	all := []Path{p}
	for _, read := range []func(string) string{decodeTwice, splitSlashes, cutParameters, cutRest, trimDots} {
		for _, known := range all { // those that were known before this one
			other := read(known.raw)
			if has(all, other) {
				continue
			}
			if len(all) == maxReadings {
				return Path{}, errReadings
			}
			// In another reading something new may need an exception: "a.;x" without its parameter ends in a dot.
			o, _, err := parsePath(other, e)
			if err != nil {
				return Path{}, err
			}
			all = append(all, o)
		}
	}
	if others := all[1:]; len(others) > 0 {
		p.others = &others
	}
	return p, nil
}

// readings returns the other ways in which the path can be read, none for nearly all paths. Read only.
func (p Path) readings() []Path {
	if p.others == nil {
		return nil
	}
	return *p.others
}

func has(all []Path, raw string) bool {
	for _, p := range all {
		if p.raw == raw {
			return true
		}
	}
	return false
}

// segmentText is a decoded segment as the app sees it that does not split at an encoded slash.
func segmentText(segment string) string {
	if strings.IndexByte(segment, keptSlash) < 0 {
		return segment
	}
	return strings.ReplaceAll(segment, string([]byte{keptSlash}), "/")
}

// plainPercent judges what follows a "%25": a second decoder has to find no escape, or one of a harmless character.
func plainPercent(rest string) bool {
	first, n := nextByte(rest)
	if first == 'u' || first == 'U' { // %uXXXX, which some old servers decode
		return false
	}
	if !isHex(first) {
		return true
	}
	second, m := nextByte(rest[n:])
	if !isHex(second) {
		return true
	}
	if n != 1 || m != 1 { // digits that are encoded themselves
		return false
	}
	c := unhex(first)<<4 | unhex(second)
	return c >= 0x80 && c != keptSlash || c == ' ' || classes[c] == plain || classes[c] == upper
}

// nextByte decodes the first byte of s and says how many bytes it took; none: 0, 0.
func nextByte(s string) (byte, int) {
	switch {
	case s == "":
		return 0, 0
	case len(s) >= 3 && s[0] == '%' && isHex(s[1]) && isHex(s[2]):
		return unhex(s[1])<<4 | unhex(s[2]), 3
	}
	return s[0], 1
}

// decodeTwice returns what a second decoder still has to decode: "%2541" as "%41". A "%25" that nothing follows stays.
func decodeTwice(raw string) string {
	if !strings.Contains(raw, "%25") {
		return raw
	}
	var b strings.Builder
	for i := 0; i < len(raw); i++ {
		b.WriteByte(raw[i])
		if raw[i] != '%' {
			continue
		}
		if strings.HasPrefix(raw[i:], "%25") && i+4 < len(raw) && isHex(raw[i+3]) && isHex(raw[i+4]) {
			i += 2
			continue
		}
		b.WriteString(raw[i+1 : i+3])
		i += 2
	}
	return b.String()
}

var slashes = strings.NewReplacer("%2F", "/", "%2f", "/")

// splitSlashes takes each encoded slash for a separator.
func splitSlashes(raw string) string { return slashes.Replace(raw) }

// cutParameters drops what follows a ";" in each segment.
func cutParameters(raw string) string {
	return eachSegment(raw, func(segment string) string {
		segment, _, _ = strings.Cut(segment, ";")
		return segment
	})
}

// cutRest drops all that follows the first ";".
func cutRest(raw string) string {
	raw, _, _ = strings.Cut(raw, ";")
	return raw
}

// trimDots drops the dots at the end of each segment.
func trimDots(raw string) string {
	return eachSegment(raw, func(segment string) string { return strings.TrimRight(segment, ".") })
}

func eachSegment(raw string, change func(string) string) string {
	var b strings.Builder
	b.Grow(len(raw))
	for raw != "" {
		var segment string
		segment, raw = cut(raw)
		b.WriteByte('/')
		b.WriteString(change(segment))
	}
	return b.String()
}

func onlyDots(segment string) bool { return strings.Trim(segment, ".") == "" }
