package audit

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// Caps of the fields, in bytes before escaping. They are above what the other packages
// let through (a subject has at most 255 bytes, a role 64), so that what is cut here
// came around those checks. The longest record stays below maxLine.
const (
	capShort  = 64  // ref, kind, source, session, method, decision, reason, missing, degraded, emergency, purpose, client, one role, method or scope
	capName   = 256 // subject, name, site, acr, client_id
	capLong   = 512 // route, path, rule, shadow
	maxRoles  = 64
	maxAMR    = 8
	maxScopes = 32
	maxLine   = 96 << 10
	cutMark   = "…" // ends a field that was cut
	hexDigits = "0123456789abcdef"
)

// timeFormat is RFC 3339 in UTC with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z"

// appendTime formats the time of a record.
func appendTime(b []byte, at time.Time) []byte { return at.UTC().AppendFormat(b, timeFormat) }

// appendHead begins a record: what the writer adds to an event. at is a formatted time.
func appendHead(b []byte, seq uint64, at, prev []byte) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, seq, 10)
	b = append(b, `,"time":"`...)
	b = append(b, at...)
	b = append(b, `","prev":"`...)
	b = append(b, prev...)
	return append(b, '"')
}

// appendEvent ends a record: the event's fields in a fixed order, and the newline.
func appendEvent(b []byte, e *Event) []byte {
	b = appendField(b, `,"kind":`, e.Kind, capShort)
	b = appendField(b, `,"ref":`, e.Ref, capShort)
	b = appendField(b, `,"source":`, e.Source, capShort)
	b = appendField(b, `,"subject":`, e.Subject, capName)
	b = appendField(b, `,"name":`, e.Name, capName)
	b = appendList(b, `,"roles":[`, e.Roles, maxRoles)
	b = appendField(b, `,"acr":`, e.ACR, capName)
	b = appendList(b, `,"amr":[`, e.AMR, maxAMR)
	b = appendField(b, `,"session":`, e.Session, capShort)
	b = appendField(b, `,"site":`, e.Site, capName)
	b = appendField(b, `,"method":`, e.Method, capShort)
	b = appendField(b, `,"route":`, e.Route, capLong)
	b = appendField(b, `,"path":`, e.Path, capLong)
	b = appendField(b, `,"decision":`, e.Decision, capShort)
	b = appendField(b, `,"rule":`, e.Rule, capLong)
	b = appendField(b, `,"reason":`, e.Reason, capShort)
	b = appendField(b, `,"missing":`, e.Missing, capShort)
	b = appendField(b, `,"shadow":`, e.Shadow, capLong)
	b = appendField(b, `,"emergency":`, e.Emergency, capShort)
	b = appendField(b, `,"purpose":`, e.Purpose, capShort)
	if e.Drill {
		b = append(b, `,"drill":true`...)
	}
	b = appendField(b, `,"patient":`, e.Patient, capShort)
	b = appendField(b, `,"degraded":`, e.Degraded, capShort)
	b = appendField(b, `,"client":`, e.Client, capShort)
	b = appendField(b, `,"client_id":`, e.ClientID, capName)
	b = appendList(b, `,"scopes":[`, e.Scopes, maxScopes)
	if e.Count > 0 {
		b = strconv.AppendInt(append(b, `,"count":`...), int64(e.Count), 10)
	}
	return append(b, '}', '\n')
}

func appendField(b []byte, name, value string, limit int) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value, limit)
}

// appendList writes at most limit values, and a mark when there are more.
func appendList(b []byte, name string, values []string, limit int) []byte {
	if len(values) == 0 {
		return b
	}
	b = append(b, name...)
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		if i == limit {
			b = append(b, '"')
			b = append(b, cutMark...)
			b = append(b, '"')
			break
		}
		b = appendString(b, v, capShort)
	}
	return append(b, ']')
}

// plain marks the ASCII characters that stand for themselves.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := byte(' '); c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendString writes a JSON string (RFC 8259, section 7). Beyond what JSON asks it
// escapes everything that is not printable: a terminal that shows the log must not
// act on control characters (ESC, C1), and text direction marks must not make a
// record look like another one. Bytes that are not UTF-8 become U+FFFD.
func appendString(b []byte, s string, limit int) []byte {
	cut := false
	if len(s) > limit {
		s, cut = cutString(s, limit), true
	}
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if plain[c] {
				i++
				continue
			}
			b = append(b, s[start:i]...)
			if c == '"' || c == '\\' {
				b = append(b, '\\', c)
			} else {
				b = appendEscape(b, rune(c))
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if !unicode.IsPrint(r) || (r == utf8.RuneError && size == 1) {
			b = append(b, s[start:i]...)
			b = appendEscape(b, r)
			start = i + size
		}
		i += size
	}
	b = append(b, s[start:]...)
	if cut {
		b = append(b, cutMark...)
	}
	return append(b, '"')
}

// cutString returns at most limit bytes of s and does not split a character.
func cutString(s string, limit int) string {
	for i := limit; i > limit-utf8.UTFMax; i-- {
		if utf8.RuneStart(s[i]) {
			return s[:i]
		}
	}
	return s[:limit] // not UTF-8 anyway
}

// appendEscape writes \uXXXX, as a surrogate pair above U+FFFF.
func appendEscape(b []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		b = appendEscape(b, 0xd800+r>>10)
		r = 0xdc00 + r&0x3ff
	}
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}
