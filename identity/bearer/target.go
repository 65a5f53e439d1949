package bearer

import (
	"net/netip"
	"strings"
)

// normalise brings an https address into the form in which two are compared (RFC
// 3986, sections 6.2.2 and 6.2.3; RFC 9449, section 4.3, number 9): scheme and host
// in lower case, no default port, escapes in upper case and only where they are
// needed, no query, no fragment. It does not remove dot segments: the requests that
// are let in have none, so an address that has them is another one.
func normalise(address string) (string, bool) {
	for i := range len(address) {
		if c := address[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return "", false
		}
	}
	address, _, _ = strings.Cut(address, "#")
	address, _, _ = strings.Cut(address, "?")
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok || !strings.EqualFold(scheme, "https") {
		return "", false
	}
	authority, path := rest, "/"
	if slash := strings.IndexByte(rest, '/'); slash >= 0 {
		authority, path = rest[:slash], rest[slash:]
	}
	authority, ok = normaliseHost(authority)
	if !ok {
		return "", false
	}
	if path, ok = normalisePath(path); !ok {
		return "", false
	}
	return "https://" + authority + path, true
}

// normaliseHost brings a Host header into lower case and takes the port of https
// off it. A user, a wildcard or an escape is no host of ours.
func normaliseHost(host string) (string, bool) {
	for i := range len(host) {
		if host[i] > 0x7e {
			return "", false // some of these become ASCII in lower case
		}
	}
	host = strings.ToLower(host)
	name, port, found := host, "", false
	if strings.HasPrefix(host, "[") {
		end := strings.IndexByte(host, ']')
		if end < 0 {
			return "", false
		}
		if ip, err := netip.ParseAddr(host[1:end]); err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", false
		}
		name = host[:end+1]
		if rest := host[end+1:]; rest != "" {
			if port, found = strings.CutPrefix(rest, ":"); !found {
				return "", false
			}
		}
	} else {
		name, port, _ = strings.Cut(host, ":")
		if strings.ContainsFunc(name, func(r rune) bool { return !letterOrDigit(byte(r)) && !strings.ContainsRune("-._", r) }) {
			return "", false
		}
	}
	if name == "" || strings.Trim(port, "0123456789") != "" || len(port) > 5 {
		return "", false
	}
	if port != "" && port != "443" {
		name += ":" + port
	}
	return name, true
}

// normalisePath keeps of the escapes those that are needed, in upper case.
func normalisePath(path string) (string, bool) {
	if strings.IndexByte(path, '%') < 0 {
		return path, true
	}
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] != '%' {
			b.WriteByte(path[i])
			continue
		}
		if i+2 >= len(path) {
			return "", false
		}
		high := strings.IndexByte(digits, upper(path[i+1]))
		low := strings.IndexByte(digits, upper(path[i+2]))
		if high < 0 || low < 0 {
			return "", false
		}
		i += 2
		// RFC 3986, section 2.3: an escaped unreserved character is itself.
		if c := byte(high<<4 | low); letterOrDigit(c) || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.WriteString(string([]byte{'%', digits[high], digits[low]}))
		}
	}
	return b.String(), true
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c - 'a' + 'A'
	}
	return c
}
