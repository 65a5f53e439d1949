package policy

import "strings"

// maxID is the greatest length of a FHIR id.
const maxID = 64

// isAboutPatient reports whether a request concerns the patient of the token and nobody else, as far as path and query say:
//
//   - bound: the pattern has a {patient}, which only that patient's id matched; or
//   - it is a search, a GET whose path ends in the resource type, and the query names the patient. A path with an id after the
//     type is a read, and servers pay no regard to a query there. What a body says cannot be seen, so that nothing but GET and
//     HEAD is bound by a query.
//
// In both cases each parameter that names a patient has to name this one.
func (q *query) isAboutPatient(bound bool, kind string) bool {
	if !isID(q.who.Patient) {
		return false
	}
	named, other := namesPatient(q.request.Query, q.who.Patient)
	return !other && (bound || named && (q.method == "GET" || q.method == "HEAD") && isSearch(q.request.Path.raw, kind))
}

// isPatient compares a decoded segment with the token's patient. An empty or impossible one equals nothing; without any, a search
// for what would be enough takes every segment for it.
func (q *query) isPatient(segment string) bool {
	if q.who.Patient == "" {
		return q.wanting && segment != ""
	}
	return segment == q.who.Patient && isID(segment)
}

// isID reports whether a text is a FHIR id, [A-Za-z0-9.-]{1,64}: never a list, never another reference.
func isID(text string) bool {
	for i := range len(text) {
		if c := text[i]; !isWord(c) && c != '-' && c != '.' || c == '_' {
			return false
		}
	}
	return text != "" && len(text) <= maxID
}

// isSearch reports whether a path ends in the resource type, or for "*" in any, and not in the id of something.
func isSearch(path, kind string) bool {
	i := strings.LastIndexByte(path, '/')
	last, before := path[i+1:], path[:i]
	if isResource(before[strings.LastIndexByte(before, '/')+1:]) {
		return false
	}
	return last == kind || kind == "*" && isResource(last)
}

// namesPatient reads a query as servers of FHIR do and reports whether a parameter patient or subject names the patient, and
// whether one could name another: with a list, a modifier, a chain, in another spelling, or in a query that two servers could
// read in two ways. Nothing is allocated.
func namesPatient(query, patient string) (named, other bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		var b [2 * maxID]byte
		text, ok := unescape(&b, name)
		if !ok || strings.IndexByte(pair, ';') >= 0 {
			return false, true
		}
		if !isPatientName(text) {
			continue
		}
		switch string(text) {
		case "patient", "subject", "patient:Patient", "subject:Patient":
		default:
			return false, true
		}
		if text, ok = unescape(&b, value); !ok || !isReference(text, patient) {
			return false, true
		}
		named = true
	}
	return named, false
}

// isPatientName reports whether somebody could take a parameter for patient or subject, also who drops what is before the name.
func isPatientName(name []byte) bool {
	const n = len("patient")
	for len(name) > 0 && !isWord(name[0]) {
		name = name[1:]
	}
	if len(name) < n || len(name) > n && (isWord(name[n]) || name[n] == '-') {
		return false
	}
	return equalFold("patient", string(name[:n])) || equalFold("subject", string(name[:n]))
}

// isReference compares with the two ways to name a patient.
func isReference(value []byte, patient string) bool {
	const prefix = "Patient/"
	return string(value) == patient || len(value) > len(prefix) && string(value[:len(prefix)]) == prefix && string(value[len(prefix):]) == patient
}

// unescape decodes a part of a query into b, as much as it holds: what is longer is neither a name nor a value that we know. A bad
// escape is not ok.
func unescape(b *[2 * maxID]byte, text string) (decoded []byte, ok bool) {
	n := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '+':
			c = ' '
		case c == '%':
			if i+2 >= len(text) || !isHex(text[i+1]) || !isHex(text[i+2]) {
				return nil, false
			}
			c = unhex(text[i+1])<<4 | unhex(text[i+2])
			i += 2
		}
		if n < len(b) {
			b[n] = c
			n++
		}
	}
	return b[:n], true
}

func isWord(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
}
