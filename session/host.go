package session

import "strings"

// hostName cuts the port off a host as it stands in a request and checks what is
// left: letters, digits, dots, hyphens and underscores, or an IPv6 address, which
// comes back without its brackets. Anything else (userinfo, a slash, a second
// colon) is not a host that a session can belong to. It does not allocate.
func hostName(host string) (string, bool) {
	if host == "" || len(host) > 255 {
		return "", false
	}
	if host[0] == '[' {
		end := strings.IndexByte(host, ']')
		if end < 3 || !isPort(host[end+1:]) {
			return "", false
		}
		for i := 1; i < end; i++ {
			if c := lower(host[i]); (c < '0' || c > '9') && (c < 'a' || c > 'f') && c != ':' && c != '.' {
				return "", false
			}
		}
		return host[1:end], true
	}
	name := host
	if i := strings.IndexByte(host, ':'); i >= 0 {
		if !isPort(host[i:]) {
			return "", false
		}
		name = host[:i]
	}
	for i := 0; i < len(name); i++ {
		c := lower(name[i])
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return "", false
		}
	}
	return name, name != ""
}

// isPort accepts nothing or a colon with one to five digits.
func isPort(s string) bool {
	if s == "" {
		return true
	}
	if s[0] != ':' || len(s) < 2 || len(s) > 6 {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// audience is the aud of a host: its name in lower case without the port.
func audience(host string) (string, bool) {
	name, ok := hostName(host)
	return strings.ToLower(name), ok
}

// isAudience compares without building the audience.
func isAudience(aud, host string) bool {
	name, ok := hostName(host)
	if !ok || len(name) != len(aud) {
		return false
	}
	for i := 0; i < len(name); i++ {
		if lower(name[i]) != aud[i] {
			return false
		}
	}
	return true
}

// isIssuer says whether iss is "https://" and a host of that audience. The port
// may be any: browsers share cookies between the ports of one host.
func isIssuer(iss, aud string) bool {
	host, ok := strings.CutPrefix(iss, "https://")
	return ok && isAudience(aud, host)
}

// lower folds ASCII only.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
