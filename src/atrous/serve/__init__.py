"""HTTP server for trained models; `atrous.serve.service.build_service` loads them."""
