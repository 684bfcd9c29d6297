"""Detectors from image labels: WSDDN, OICR, MIST."""
