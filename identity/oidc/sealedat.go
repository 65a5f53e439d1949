package oidc

import "strings"

// SealedAt says under which label the value at a store key of this package is
// sealed, for whoever seals all of them anew under another key. ok is false for keys
// of others.
func SealedAt(key string) (label string, ok bool) {
	for _, label := range []string{labelClientKey, labelDPoPKey} {
		if strings.HasPrefix(key, label+"/") {
			return label, true
		}
	}
	return "", false
}
