"""Who may reach the service, and how: certificates, tokens with scopes, rates, and what may be listened on."""
