package portal

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/anteroom-proxy/anteroom/identity"
	"github.com/anteroom-proxy/anteroom/session"
)

// The bounds of what a request may ask for. It travels in the cookie of an
// attempt, beside the return address, and in an ask.
const (
	maxNeedText  = 512 // all names together, in bytes
	maxNeedLists = 8   // amr parameters
	maxNeedNames = 16  // of one list
	maxNeedAge   = 30 * 24 * time.Hour
)

// needOf reads what a page asks for (RFC 9470): acr_values, separated by spaces;
// amr, separated by commas, which may repeat; max_age, in seconds. Anything odd is
// no need: the page itself asks again, and nobody's session rises by what stands
// in an address.
func needOf(q url.Values) identity.Need {
	var n identity.Need
	size := 0
	list := func(text, separator string) []string {
		names := strings.Split(text, separator)
		if size += len(text); len(names) > maxNeedNames {
			size = maxNeedText + 1
		}
		for _, name := range names {
			if !isNeedName(name) {
				size = maxNeedText + 1
			}
		}
		return names
	}
	if len(q["acr_values"]) > 1 || len(q["amr"]) > maxNeedLists || len(q["max_age"]) > 1 {
		return identity.Need{}
	}
	for _, text := range q["acr_values"] {
		n.ACR = list(text, " ")
	}
	for _, text := range q["amr"] {
		n.AMR = append(n.AMR, list(text, ","))
	}
	for _, text := range q["max_age"] {
		seconds, err := strconv.ParseUint(text, 10, 32)
		if n.MaxAge = time.Duration(seconds) * time.Second; err != nil || text[0] == '0' || n.MaxAge > maxNeedAge {
			return identity.Need{}
		}
	}
	if size > maxNeedText {
		return identity.Need{}
	}
	return n
}

// isNeedName reports whether s can be an acr or amr value: printable ASCII, and
// nothing that separates.
func isNeedName(s string) bool {
	for i := range len(s) {
		if s[i] < 0x21 || s[i] > 0x7e || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return s != ""
}

// needQuery is the inverse of needOf.
func needQuery(n identity.Need, q url.Values) {
	if len(n.ACR) > 0 {
		q.Set("acr_values", strings.Join(n.ACR, " "))
	}
	for _, any := range n.AMR {
		q.Add("amr", strings.Join(any, ","))
	}
	if n.MaxAge > 0 {
		q.Set("max_age", strconv.FormatInt(int64(n.MaxAge/time.Second), 10))
	}
}

// meets reports whether a session's sign-in shows what is needed.
func meets(g session.Grant, n identity.Need, now time.Time) bool {
	return n.Met(identity.Identity{ACR: g.ACR, AMR: g.AMR, AuthTime: g.AuthTime}, now)
}
