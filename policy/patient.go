package policy

import "strings"

// maxID is the greatest length of a FHIR id.
const maxID = 64

// isAboutPatient reports whether a request concerns the patient of the token and nobody else, as far as path and query say:
//
//   - bound: the pattern has a {patient}, which only that patient's id matched; or
//   - it is a search, a GET whose path ends in the resource type, and the query names the patient by a parameter that the type
//     has. A path with an id after the type is a read, and servers pay no regard to a query there. What a body says cannot be
//     seen, so that nothing but GET and HEAD is bound by a query.
//
// A GET with a body is bound by nothing: several frameworks read parameters out of that, too, before those of the query.
// In both cases each parameter that names a patient has to name this one, and what leads on from there to others is refused.
func (q *query) isAboutPatient(bound bool, kind string) bool {
	if !isID(q.who.Patient) {
		return false
	}
	path, said := q.path, namesPatient(q.request.Query, q.who.Patient)
	if said&another != 0 || includes(q.request.Query) || isGraph(path.folded) {
		return false
	}
	if q.method != "GET" && q.method != "HEAD" {
		return bound
	}
	return !q.request.Body && (bound || isSearch(path.raw, kind, said))
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

// namesPatient reads a query as servers of FHIR do and says by which parameters, patient or subject, it names the patient, and
// whether one could name another: with a list, a modifier, a chain, in another spelling, or in a query that two servers could
// read in two ways. Nothing is allocated.
func namesPatient(query, patient string) (said uint8) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		name, value, _ := strings.Cut(pair, "=")
		var b [2 * maxID]byte
		text, ok := unescape(&b, name)
		if !ok || strings.IndexByte(pair, ';') >= 0 || isCut(text) {
			return another
		}
		if !isPatientName(text) {
			continue
		}
		by := uint8(byPatient)
		switch string(text) {
		case "patient", "patient:Patient":
		case "subject", "subject:Patient":
			by = bySubject
		default:
			return another
		}
		bare := len(text) == len("subject")
		if text, ok = unescape(&b, value); !ok || !isReference(text, patient) {
			return another
		}
		if by == bySubject && bare && len(text) == len(patient) {
			continue // a group or a device can have the same id
		}
		said |= by
	}
	return said
}

// isPatientName reports whether somebody could take a parameter for patient or subject, also who drops what is before the name.
func isPatientName(name []byte) bool {
	for len(name) > 0 && !isWord(name[0]) {
		name = name[1:]
	}
	return isNamed(name, "patient") || isNamed(name, "subject")
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
